"""The long form of tests/sevenfold/release: more kills, more crowds, more lives, and what the store costs.

`python -m tests.benchmarks.release` from the root with include/ on PYTHONPATH takes minutes. It fails on the
first invariant that breaks.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.sevenfold.evidence_world import World, candidate
from tests.sevenfold.release.histories import Histories
from tests.sevenfold.release.protocol import Design, explore, fenced

from sevenfold.evidence.store import open_store
from sevenfold.gates.measurement import Measurement

CROWDS = 100
STRIDE = 12
"""Of the pairs of points, every how-manieth is killed at one after the other."""


def main() -> None:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="sevenfold-kills-"))
    try:
        histories = Histories(folder / "kills", finely=True)
        print(f"{'histories':<58} {'number':>8} {'seconds':>8}")
        for verdict in ("Successful", "Failed", "Error"):
            points = histories.points(verdict)
            _timed(
                f"killed once, {verdict}, at each of {points} points", _singles(histories, verdict, points)
            )
        points = histories.points("Successful")
        _timed(f"killed twice, every {STRIDE}th pair of {points} points", _doubles(histories, points))
        _timed("two promotions and a roll-back at once, all killed", _crowds(histories, points))
        _timed("two tries of one task at once, one killed", _overlaps(histories, points))
        for kills in range(4):
            _timed(f"protocol states with up to {kills} kills", lambda kills=kills: _states(kills))  # type: ignore[misc]
        _costs(folder / "costs")
    finally:
        shutil.rmtree(folder)


def _timed(what: str, work: Callable[[], int]) -> None:
    began = time.perf_counter()
    number = work()
    print(f"{what:<58} {number:>8,} {time.perf_counter() - began:>8.1f}", flush=True)


def _singles(histories: Histories, verdict: str, points: int) -> Callable[[], int]:
    def run() -> int:
        for at in range(1, points + 1):
            histories.killed(verdict, at)
        return points

    return run


def _doubles(histories: Histories, points: int) -> Callable[[], int]:
    def run() -> int:
        pairs = [(first, second) for first in range(1, points + 1) for second in range(1, points + 1)]
        chosen = pairs[:: STRIDE * STRIDE]
        for first, second in chosen:
            histories.killed("Successful", first, second)
        return len(chosen)

    return run


def _crowds(histories: Histories, points: int) -> Callable[[], int]:
    def run() -> int:
        for seed in range(CROWDS):
            histories.crowd(1000 + seed, points)
        return CROWDS

    return run


def _overlaps(histories: Histories, points: int) -> Callable[[], int]:
    def run() -> int:
        for seed in range(CROWDS):
            histories.overlapping(1000 + seed, points)
        return CROWDS

    return run


def _states(kills: int) -> int:
    found = explore(Design(fenced), kills)
    assert found.violations == {}, found.violations
    return found.states


def _costs(home: Path) -> None:
    """What the store costs on this machine, in milliseconds."""
    home.mkdir()
    world = World(open_store(f"sqlite:///{home}/evidence.db", home / "keys"))
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    readings = [
        Measurement(
            promotion=promotion.id, candidate=made.id, activity="canary", metric="errors", value=0.01,
            digest=made.model_digest, interval=str(k),
        )
        for k in range(10_000)
    ]  # fmt: skip
    print(f"\n{'store':<58} {'ms':>8}")
    _cost("record 10,000 readings", lambda: world.store.record(readings))
    _cost("record them again (all known)", lambda: world.store.record(readings))
    _cost("read 10,000 readings", lambda: world.store.measurements(promotion.id))
    _cost("conclude a promotion with 1 reading", lambda: world.judged(made, "staging"))
    _cost("passed?", lambda: world.store.passed(made.id, "staging"))
    _cost("record 1 reading", lambda: world.measure(promotion))


def _cost(what: str, work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    print(f"{what:<58} {1000 * (time.perf_counter() - began):>8.1f}", flush=True)


if __name__ == "__main__":
    main()
