"""Histories of crashes: one template, copied for each, and ways to kill what runs on it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.sevenfold.evidence_world import MODEL, World
from tests.sevenfold.release.invariants import check
from tests.sevenfold.release.rollout import (
    PATIENCE_S,
    REPORT,
    WAITS,
    FileRouter,
    ended,
    forked,
    opened,
    roll_back,
    roll_out,
)

from sevenfold.release import release
from sevenfold.release.reconcile import reconcile

VERDICTS = ("Successful", "Failed", "Error")


class Histories:
    """A store with champion `first`, and two candidates that may be rolled out."""

    def __init__(self, folder: Path, finely: bool = False) -> None:
        self.folder, self.template = folder, folder / "template"
        self.template.mkdir(parents=True)
        (self.template / REPORT).write_bytes(b"calm " * 4000)
        world = World(opened(self.template))
        self.first = world.crowned("a").id
        self.second, self.third = (world.proven(letter) for letter in "bc")
        self.promotion = world.begin(self.second, "production").id
        reconcile(world.store, MODEL, FileRouter(self.template))
        world.store.engine.dispose()
        self.count, self.finely = 0, finely

    @contextmanager
    def history(self) -> Iterator[Path]:
        """A fresh copy of the template."""
        self.count += 1
        home = self.folder / f"history-{self.count}"
        shutil.copytree(self.template, home)
        yield home
        shutil.rmtree(home)

    def points(self, verdict: str) -> int:
        """At how many points a roll-out can be killed."""
        with self.history() as home:
            pid = forked(self._roll_out(home, verdict), finely=self.finely, count=home / "points")
            assert ended(pid) == 0
            return int((home / "points").read_text())

    def killed(self, verdict: str, *at: int) -> None:
        """One roll-out, killed at each of these points one try after another, then run to its end."""
        with self.history() as home:
            log: list[str] = []
            for point in at:
                assert ended(forked(self._roll_out(home, verdict), point, self.finely)) in (-9, 0)
                log = check(home, log, at_rest=False)
            assert ended(forked(self._roll_out(home, verdict))) == 0
            check(home, log, at_rest=True)
            self._require_champion(home, self.second.id if verdict == "Successful" else self.first)

    def crowd(self, seed: int, points: int) -> None:
        """Two roll-outs and a roll-back at once, each killed at a random point, then all run again."""
        chance = random.Random(seed)
        with self.history() as home:
            store = opened(home)
            other = World(store).begin(self.third, "production", "other").id
            store.engine.dispose()
            verdicts = [chance.choice(VERDICTS) for _ in range(2)]

            def crowd(patience_s: float) -> list[Callable[[], None]]:
                promotions = zip((self.promotion, other), verdicts, strict=True)
                rolling = [partial(roll_out, home, *each, patience_s) for each in promotions]
                return [*rolling, partial(roll_back, home, self.second.id)]

            pids = [forked(each, chance.randint(1, points), self.finely) for each in crowd(0.5)]
            assert {ended(pid) for pid in pids} <= {-9, 0, WAITS}
            log = check(home, [], at_rest=False)
            pids = [forked(each) for each in crowd(PATIENCE_S)]
            assert {ended(pid) for pid in pids} == {0}
            check(home, log, at_rest=True)

    def overlapping(self, seed: int, points: int) -> None:
        """Two tries of one task at once, as Airflow makes them when a scheduler is killed; one is killed."""
        at = random.Random(seed).randint(1, points)
        with self.history() as home:
            work = self._roll_out(home, "Successful")
            pids = [forked(work, at, self.finely), forked(work)]
            first, second = [ended(pid) for pid in pids]
            assert (first in (-9, 0), second) == (True, 0)
            check(home, [], at_rest=True)
            self._require_champion(home, self.second.id)

    def _roll_out(self, home: Path, verdict: str) -> Callable[[], None]:
        return partial(roll_out, home, self.promotion, verdict)

    def _require_champion(self, home: Path, champion: str) -> None:
        store = opened(home)
        row = release.row(store, MODEL)
        assert row.champion == champion
        ended = store.promotion(self.promotion)
        assert (row.held is not None) == (ended.verdict == "Failed"), "proven bad, and the next one may come"
        store.engine.dispose()
