"""The small world with a real gateway: supervisor, Envoy and replicas on loopback, ended with the tests."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.activities.small_world import MODEL, World

from sevenfold.activity import Activity
from sevenfold.candidates.candidate import Candidate
from sevenfold.cluster import Deployed, Deployment, Endpoint, open_cluster
from sevenfold.cluster.local import LocalCluster
from sevenfold.environments import before
from sevenfold.gates.analysis import AnalysisRun
from sevenfold.gates.conclude import conclude
from sevenfold.gates.verdict import Verdict
from sevenfold.gateway import local_gateway
from sevenfold.gateway.envoy import soon
from sevenfold.local.supervision import Program, Supervisor
from sevenfold.people.approval import record_approval
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.release.reconcile import reconcile
from sevenfold.settings import settings

STEPS = """steps:
  - {share: 0.25, bake: 1s, requests: 30, deadline: 40s}
  - {share: 0.5, bake: 1s, requests: 60, deadline: 40s}
"""
GATE = """
environment: {environment}
model: coin
description: What the tests ask of a canary of the small model.
{steps}metrics:
  - {{metric: errors, activity: canary, unit: share, direction: lower, rule: rate_ratio, baseline: champion,
     margin: 2, limit: 0.05, interval: 1s, deadline: 1h, meaning: few errors and not more than the champion}}
  - {{metric: slow, activity: canary, unit: share, direction: lower, rule: rate_ratio, baseline: champion,
     margin: 2, limit: 0.2, interval: 1s, deadline: 1h, meaning: not slower than the champion}}
  - {{metric: wrong_labels, activity: canary, unit: share, direction: lower, rule: rate_ratio,
     baseline: champion, margin: 1.5, interval: 1s, deadline: 1d, matured_after: 12h,
     meaning: not more often wrong}}
"""


class LiveWorld(World):
    """A small world whose settings are the process's own, with everything running."""

    def __init__(self, folder: Path, port: int) -> None:
        os.environ |= {
            "SEVENFOLD_HOME": str(folder / "home"),
            "SEVENFOLD_MODELS": str(folder / "models"),
            "SEVENFOLD_GATEWAY_URL": f"http://127.0.0.1:{port}",
        }
        settings.cache_clear()
        super().__init__(folder)
        self.settings = settings()
        gates = self.settings.models / MODEL / "gates"
        gates.mkdir()
        for environment in ("staging", "preproduction", "production"):
            production = environment == "production"
            text = GATE.format(environment=environment, steps=STEPS if production else "")
            if not production:
                text = text[: text.index("  - {metric: wrong_labels")]
            (gates / f"{environment}.yaml").write_text(text)
        self.runs = 0

    def analysis(self, promotion: Promotion, verdict: Verdict) -> AnalysisRun:
        """What a gate says when the test wants it to."""
        return AnalysisRun(
            promotion=promotion.id,
            candidate=promotion.candidate or "",
            environment=promotion.environment,
            policy_hash=self.store.candidate(promotion.candidate or "").gates[promotion.environment],
            verdict=verdict,
            reason=f"the test says {verdict}",
            metrics=(),
        )

    def passed(self, candidate: Candidate, environment: str) -> Promotion:
        """A promotion of the candidate that its gate let pass."""
        promotion = self.begin(candidate, environment)
        return conclude(self.store, promotion.id, self.analysis(promotion, Verdict.SUCCESSFUL))

    def proven(self, candidate: Candidate, until: str = "production") -> Candidate:
        """The candidate with everything that it needs to enter an environment."""
        for environment in before(until):
            promotion = self.passed(candidate, environment)
        if until == "production":
            record_approval(self.store, promotion.id, "ann", "looks good")
        return candidate

    def begin(self, candidate: Candidate, environment: str, **params: object) -> Promotion:
        """A new promotion."""
        self.runs += 1
        as_of, run = datetime(2013, 3, 15, tzinfo=UTC), f"run-{self.runs}"
        return self.store.begin_promotion(
            MODEL, environment, run, candidate.id, as_of, "a test", params, "bob"
        )

    def handle(self, name: str, promotion: Promotion) -> Activity:
        """What the activity `name` gets in this promotion."""
        return Activity(name, promotion, self.store, self.settings)

    def crown(self, candidate: Candidate) -> Candidate:
        """Makes a proven candidate champion, deployed and served."""
        promotion = self.begin(self.proven(candidate), "production")
        release.claim(self.store, promotion.id, "ann")
        open_cluster().deploy(Deployment(MODEL, candidate.id, "champion", 1))
        release.set_share(self.store, promotion.id, 1.0, "ann")
        conclude(self.store, promotion.id, self.analysis(promotion, Verdict.SUCCESSFUL))
        release.settle(self.store, promotion.id, "ann")
        reconcile(self.store, MODEL, local_gateway())
        return candidate


@contextmanager
def live_world(folder: Path, drain_s: float = 0.2) -> Iterator[LiveWorld]:
    """A live world, its processes ended afterwards. Its replicas drain for a short time only."""
    kept = {
        name: os.environ.get(name) for name in ("SEVENFOLD_HOME", "SEVENFOLD_MODELS", "SEVENFOLD_GATEWAY_URL")
    }
    world = LiveWorld(folder, free_port())
    supervisor = Supervisor(world.settings.home)
    program = LocalCluster._program

    def quickly(cluster: LocalCluster, held: Deployed, endpoint: Endpoint) -> Program:
        made = program(cluster, held, endpoint)
        return replace(made, command=(*made.command, "--drain", str(drain_s)))

    LocalCluster._program = quickly  # type: ignore[method-assign]
    try:
        supervisor.start()
        supervisor.add(local_gateway().program())
        assert soon(local_gateway().envoy.running, 30), supervisor.tail("gateway", 5)
        yield world
    finally:
        supervisor.shutdown()
        LocalCluster._program = program  # type: ignore[method-assign]
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        settings.cache_clear()


def free_port() -> int:
    """A port that is free, and the one after it; below those that systems hand out."""
    while True:
        port = random.randrange(12_000, 19_000, 2)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
