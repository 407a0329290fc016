"""The real stack with a small model whose candidates are made to order: good ones, and ones that break."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.activities.live_stack import LiveWorld, free_port
from tests.activities.small_world import MODEL

from sevenfold.candidates.candidate import Candidate
from sevenfold.cluster import Deployment, open_cluster
from sevenfold.data.snapshot import snapshot
from sevenfold.local import stack
from sevenfold.local.airflow_client import AirflowError
from sevenfold.model.spec import load_spec
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings

BREAKS = 3e38
"""Makes a candidate whose answer to many rows is no number: its server says 500."""
REPLICAS = 2
GATE = """
environment: production
model: coin
description: What the chaos run asks of a canary of the small model.
steps:
  - {share: 0.1, bake: 2s, requests: 10, deadline: 60s}
  - {share: 0.3, bake: 2s, requests: 40, deadline: 60s}
  - {share: 0.5, bake: 4s, requests: 80, deadline: 90s}
metrics:
  - {metric: errors, activity: canary, unit: share, direction: lower, rule: rate_ratio, baseline: champion,
     margin: 2, limit: 0.05, interval: 1s, deadline: 2m, error_limit: 5,
     meaning: Few errors and not many more than the champion's.}
"""


@dataclass(frozen=True)
class Order:
    """A promotion that was asked for: its candidate, and whether that one breaks."""

    candidate: Candidate
    breaks: bool
    run: str

    @property
    def promotion(self) -> str:
        """Its id."""
        return f"{MODEL}/production/{self.run}"


class ChaosWorld(LiveWorld):
    """A stack of its own, on ports and in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {
            "SEVENFOLD_AIRFLOW_URL": f"http://127.0.0.1:{free_port()}",
            "SEVENFOLD_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",
        }
        super().__init__(folder, free_port())
        (self.settings.models / MODEL / "gates" / "production.yaml").write_text(GATE)
        spec = self.settings.models / MODEL / "model.yaml"
        spec.write_text(spec.read_text().replace("replicas: 1", f"replicas: {REPLICAS}"))
        snapshot(load_spec(MODEL, self.settings.models), self.settings.data, print)
        self.made = 0

    def one(self, *, breaks: bool) -> Candidate:
        """A new candidate, proven up to preproduction."""
        self.made += 1
        made = self.candidate(weight=1.5 + self.made / 1000, breaks=BREAKS if breaks else 0.0)
        return self.proven(made)

    def begin_with_champions(self) -> None:
        """A champion and two before it, deployed."""
        for _ in range(3):
            champion = self.crown(self.one(breaks=False))
            open_cluster().deploy(Deployment(MODEL, champion.id, "champion", REPLICAS))

    def order(self, number: int, *, breaks: bool) -> Order:
        """Starts production's DAG for a new candidate, as a person would."""
        order = Order(self.one(breaks=breaks), breaks, f"chaos-{number}")
        conf = {"candidate": order.candidate.id, "reason": f"sequence {number}"}
        stack.airflow(self.settings, "admin").trigger(f"{MODEL}.production", conf, order.run)
        return order

    def found(self, order: Order) -> Promotion | None:
        """The promotion of an order, once it has begun."""
        known = {promotion.id: promotion for promotion in self.store.promotions(MODEL, "production")}
        return known.get(order.promotion)

    def over(self, order: Order) -> bool:
        """Whether the run of an order has ended, its last task included."""
        with suppress(AirflowError):
            run = stack.airflow(self.settings, "admin").run(f"{MODEL}.production", order.run)
            return run["state"] in ("success", "failed")
        return False

    def approve(self) -> None:
        """Answers what waits for a person, as the other user."""
        approver = stack.airflow(self.settings, "approver")
        for asked in approver.awaiting_approval():
            approver.answer(asked, "Approve", {"reason": "chaos"})

    def resume(self) -> None:
        """Releases the hold that a refused candidate leaves."""
        if release.row(self.store, MODEL).held:
            release.release_hold(self.store, MODEL, "ann", "the next sequence")


@contextmanager
def chaos_world(folder: Path) -> Iterator[ChaosWorld]:
    """The world with everything running; stopped afterwards."""
    world = ChaosWorld(folder)
    try:
        stack.up(world.settings, print)
        admin = stack.airflow(world.settings, "admin")
        # a new champion would wake it, and this model has no alarm
        admin._request("PATCH", f"/api/v2/dags/{MODEL}.monitoring", json={"is_paused": True})
        world.begin_with_champions()
        yield world
    finally:
        stack.down(world.settings)
        settings.cache_clear()
