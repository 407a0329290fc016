"""Chaos: a promotion goes on under steady load while replicas, gateway, scheduler and tasks are killed.

`python -m tests.benchmarks.chaos [sequences] [first seed]` from the root with include/ and plugins/ on
PYTHONPATH; it takes minutes, and only ever kills processes of a stack of its own. A sequence is one run of
production's DAG, real in all its parts. Every third candidate breaks, and must be taken off and refused. It
prints how long the roll-back DAG took, then a line a sequence with what broke, and fails if anything did.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.activities.small_world import MODEL
from tests.benchmarks.chaos import checks
from tests.benchmarks.chaos.faults import Faults
from tests.benchmarks.chaos.going_back import go_back
from tests.benchmarks.chaos.load import Load
from tests.benchmarks.chaos.world import ChaosWorld, Order, chaos_world

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.release import release

DEADLINE_S = 420.0
"""Of a promotion: its steps may take 210 s, a scheduler that died is taken for dead after 30, tasks retry."""
REST_S = 90.0
"""After the last kill everything must have come to rest."""


def main() -> None:
    sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder = Path(tempfile.mkdtemp(prefix="sevenfold-chaos-"))
    broken = 0
    with chaos_world(folder) as world:
        broken += say(go_back(world, "back-1", gone=False))
        broken += say(go_back(world, "back-2", gone=True))
        world.resume()
        print(f"{'seed':>4} {'candidate':<8} {'ended as':<11} {'seconds':>7} {'kills':>5} {'requests':>8} "
              f"{'200':>6} {'4xx/5xx':>7} {'no gateway':>10} {'broken':>6}", flush=True)  # fmt: skip
        for seed in range(first, first + sequences):
            broken += say(sequence(world, seed))
    if broken:
        print(f"{broken} things broke; the stack's folder is kept: {folder}")
        sys.exit(1)
    shutil.rmtree(folder)
    print(f"nothing broke in {sequences} sequences")


def say(problems: list[str]) -> int:
    """Prints what broke, and returns how much that is."""
    for problem in problems:
        print(f"  broken: {problem}", flush=True)
    return len(problems)


def sequence(world: ChaosWorld, seed: int) -> list[str]:
    """One promotion under load and faults; a sentence for each thing that does not hold afterwards."""
    problems = unproven(world)
    load, faults = Load(world), Faults(world, seed)
    load.start()
    order = world.order(seed, breaks=seed % 3 == 0)
    started = time.monotonic()
    faults.start()
    while time.monotonic() - started < DEADLINE_S + REST_S:
        with suppress(SevenfoldError):
            world.approve()
        promotion = world.found(order)
        if promotion is not None and promotion.state != "running":
            break
        time.sleep(0.5)
    seconds = time.monotonic() - started
    faults.stop()
    at_rest(world, order)
    load.stop()
    for check in (
        checks.requests(load, load.said, faults.gateway_killed),
        checks.served(world, load.said),
        checks.row(world),
        checks.ended(world, order, seconds, DEADLINE_S, sum(faults.killed.values())),
    ):
        problems += check
    tell(seed, world, order, seconds, load, faults, len(problems))
    world.resume()
    return problems


def tell(
    seed: int, world: ChaosWorld, order: Order, seconds: float, load: Load, faults: Faults, broken: int
) -> None:
    """The sequence's line of the table."""
    promotion = world.found(order)
    kinds = Counter(
        "200" if one.status == 200 else "none" if one.status < 1 else "refused" for one in load.said
    )
    killed = ", ".join(f"{name} {number}" for name, number in sorted(faults.killed.items()))
    state = promotion.state if promotion else "unborn"
    cells = (
        f"{seed:>4} {'breaks' if order.breaks else 'good':<8} {state:<11}",
        f"{seconds:>7.0f} {sum(faults.killed.values()):>5} {len(load.said):>8,} {kinds['200']:>6,}",
        f"{kinds['refused']:>7,} {kinds['none']:>10,} {broken:>6}  {killed};",
        promotion.outcome if promotion else "",
    )
    print(*cells, flush=True)


def unproven(world: ChaosWorld) -> list[str]:
    """A candidate without a record is refused by the release row itself."""
    candidate = world.candidate(weight=1.0 + world.runs / 1000)
    try:
        release.claim(world.store, world.begin(candidate, "production").id, "chaos")
    except EvidenceLacking:
        return []
    return [f"S1 {candidate.id} has no record and was let onto the release row of {MODEL}"]


def at_rest(world: ChaosWorld, order: Order) -> None:
    """Waits until the run has ended (its roll-back holds others) and nothing is amiss, or time is over."""
    until = time.monotonic() + REST_S
    while time.monotonic() < until and not (world.over(order) and not list(checks.row(world))):
        time.sleep(0.5)


if __name__ == "__main__":
    main()
