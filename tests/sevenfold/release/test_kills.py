"""SIGKILL at every point where what a roll-out keeps can differ; tests/benchmarks/release kills at more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sevenfold.release.histories import Histories

PAIRS_OF_KILLS = 4
CROWDS = 3
"""How many of the histories of two kills, and of several processes, a default run takes."""


@pytest.fixture(scope="module")
def histories() -> Iterator[Histories]:
    memory = Path("/dev/shm")  # histories sync many files; what they survive is a kill, not a power cut
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="sevenfold-kills-"))
    yield Histories(folder)
    shutil.rmtree(folder)


def test_killed_once_at_every_point(histories: Histories) -> None:
    points = histories.points("Successful")
    assert points > 25
    for at in range(1, points + 1):
        histories.killed("Successful", at)


def test_killed_once_at_every_point_where_a_refusal_differs(histories: Histories) -> None:
    points = histories.points("Failed")
    for at in range(points // 2, points + 1):
        histories.killed("Failed", at)


def test_killed_twice(histories: Histories) -> None:
    points = histories.points("Successful")
    for first in range(1, points, max(points // PAIRS_OF_KILLS, 1)):
        histories.killed("Successful", first, points - first)


def test_two_promotions_and_a_roll_back_at_once_all_killed(histories: Histories) -> None:
    points = histories.points("Successful")
    for seed in range(CROWDS):
        histories.crowd(seed, points)


def test_two_tries_of_one_task_at_once(histories: Histories) -> None:
    points = histories.points("Successful")
    for seed in range(CROWDS):
        histories.overlapping(seed, points)
