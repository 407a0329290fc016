"""What an activity pod does in the test of serving: rolls a candidate out beside a champion, and back.

It runs on the cluster, as the account `promoter`, with nothing but the library and the tests' evidence. Each
step is a line of JSON; the last one is {"step": "done"}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from evidence_world import MODEL, World, analysis, candidate  # noqa: E402

from sevenfold.candidates.candidate import Candidate  # noqa: E402
from sevenfold.cluster import Deployment, open_cluster  # noqa: E402
from sevenfold.environments import before  # noqa: E402
from sevenfold.evidence.artifacts import open_artifacts  # noqa: E402
from sevenfold.evidence.store import open_store  # noqa: E402
from sevenfold.gates.conclude import conclude  # noqa: E402
from sevenfold.gateway import open_gateway  # noqa: E402
from sevenfold.people.approval import record_approval  # noqa: E402
from sevenfold.release import release  # noqa: E402
from sevenfold.release.going_back import go_back  # noqa: E402
from sevenfold.release.reconcile import reconcile  # noqa: E402
from sevenfold.settings import settings  # noqa: E402

HOLD_S = 4.0
"""So long each split is held, for the load to meet it."""


def main() -> None:
    """The whole story."""
    world = World(open_store())
    one, two = proven(world, "a"), proven(world, "b")
    cluster, gateway = open_cluster(), open_gateway()
    with timed("deploy champion"):
        cluster.deploy(Deployment(MODEL, one.id, "champion", 2))
    crown(world, one)
    with timed("champion in force"):
        reconcile(world.store, MODEL, gateway)
    await_file("loaded")
    with timed("deploy challenger"):
        cluster.deploy(Deployment(MODEL, two.id, "challenger", 2))
    promotion = world.begin(two, "production", "second")
    release.claim(world.store, promotion.id, "test")
    for share in (0.1, 0.5):
        with timed(f"share {share}"):
            release.set_share(world.store, promotion.id, share, "test")
            reconcile(world.store, MODEL, gateway)
        time.sleep(HOLD_S)
    conclude(world.store, promotion.id, analysis(promotion, "Successful"))
    with timed("promote"):
        release.promote(world.store, promotion.id, "test")
        reconcile(world.store, MODEL, gateway)
    say("promoted")
    await_file("gateway-replaced")
    with timed("roll back"):
        row = go_back(world.store, cluster, MODEL, by="test", reason="a drill")
    assert row.champion == one.id, row
    time.sleep(HOLD_S)
    with timed("remove"):
        cluster.remove(MODEL, "challenger", two.id)
    time.sleep(1)
    (settings().logs / "stop").touch()
    say("done")


def proven(world: World, letter: str) -> Candidate:
    """A candidate whose file is in the artifact store, and that may go to production."""
    digest = open_artifacts().put(HERE / f"{letter}.onnx")
    made = world.store.add_candidate(candidate(letter).model_copy(update={"model_digest": digest}))
    for environment in before("production"):
        promotion = world.judged(made, environment, run=letter)
    record_approval(world.store, promotion.id, "ann", "looks good")
    return made


def crown(world: World, one: Candidate) -> None:
    """Makes it champion on the row."""
    promotion = world.begin(one, "production", "first")
    release.claim(world.store, promotion.id, "test")
    release.set_share(world.store, promotion.id, 1.0, "test")
    conclude(world.store, promotion.id, analysis(promotion, "Successful"))
    release.settle(world.store, promotion.id, "test")


def await_file(name: str) -> None:
    """Waits for the test."""
    say(f"waits for {name}")
    while not (settings().logs / name).exists():
        time.sleep(0.2)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Says how long a step took."""
    began = time.monotonic()
    yield
    say(step, seconds=round(time.monotonic() - began, 2))


def say(step: str, **more: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"step": step, **more}), flush=True)


if __name__ == "__main__":
    main()
