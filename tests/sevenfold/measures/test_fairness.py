"""Group rates against hand counts, and intervals against worlds whose truth is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sevenfold.errors import SevenfoldError
from sevenfold.measures.fairness import Counts, changes, count, gaps
from sevenfold.model.tasks import BINARY


def test_rates_by_hand() -> None:
    days = np.repeat(["d1", "d2"], 5)
    groups = np.array(list("aaabbaaabb"))
    labels = np.array([1, 1, 0, 1, 0, 1, 1, 0, 1, 0])
    probabilities = np.array([0.9, 0.1, 0.8, 0.9, 0.2, 0.9, 0.1, 0.8, 0.9, 0.2])
    counted = count(BINARY, days, groups, labels, probabilities)
    assert counted.groups == ["a", "b"]
    found = {(g.group, g.rate): g for g in gaps(counted)}
    assert found["a", "true_positive_rate"].value == pytest.approx(0.5 - 1.0)
    assert found["b", "true_positive_rate"].value == pytest.approx(0.5)
    assert found["a", "false_positive_rate"].value == pytest.approx(1.0)
    assert found["a", "calibration"].value == pytest.approx((3.6 - 4) / 6 - (2.2 - 2) / 4)
    assert found["a", "true_positive_rate"].rows == 6
    gap = found["a", "true_positive_rate"]
    assert gap.low == gap.high == gap.size == 0.5  # both days are alike


def world(
    gap: float, *, days: int = 60, wobble: float = 0.0, seed: int = 0, start: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two groups whose true positive rates differ by `gap`; `wobble` moves all rows of a day and group."""
    random = np.random.default_rng(seed)
    day = np.repeat(np.arange(days) + start, 200)
    group = random.integers(2, size=len(day))
    label = random.random(len(day)) < 0.3
    shift = random.normal(0, wobble, size=(days, 2))[day - start, group]
    hit = random.random(len(day)) < np.clip(0.5 + gap * (group == 0) + shift, 0, 1)
    return day, np.array(["major", "regional"])[group], label, np.where(hit, 0.9, 0.1)


def test_the_interval_covers_the_truth_when_rows_of_a_day_move_together() -> None:
    covered = rows_only = 0
    for seed in range(60):
        counted = count(BINARY, *world(0.10, wobble=0.1, seed=seed))
        gap = next(g for g in gaps(counted) if g.group == "major" and g.rate == "true_positive_rate")
        covered += gap.low <= 0.10 <= gap.high
        positives = counted.total[:, 2]  # what its rate is of
        error = 1.96 * np.sqrt((0.25 / positives).sum())
        rows_only += abs(gap.value - 0.10) <= error
    assert covered >= 53  # 95 % of 60 is 57; below 53 has probability 0.005 at 95 %
    assert rows_only < covered


def test_equal_groups_have_a_gap_whose_lower_bound_is_zero() -> None:
    for gap in gaps(count(BINARY, *world(0.0))):
        assert gap.low == 0.0
        assert gap.size <= gap.high < 0.1


def test_change_against_the_champion_is_paired() -> None:
    day, group, label, champion = world(0.10, wobble=0.1)
    worse = np.where((group == "regional") & label & (np.arange(len(day)) % 5 == 0), 0.1, champion)
    counted, baseline = count(BINARY, day, group, label, worse), count(BINARY, day, group, label, champion)
    found = {(c.group, c.rate): c for c in changes(counted, baseline)}
    change = found["regional", "true_positive_rate"]
    assert 0 < change.low < change.value < change.high
    alone = next(g for g in gaps(counted) if (g.group, g.rate) == ("regional", "true_positive_rate"))
    assert change.high - change.low < alone.high - alone.low
    assert all(c.value == c.low == c.high == 0 for c in changes(baseline, baseline))


def test_a_group_without_positives_has_no_true_positive_rate() -> None:
    day = np.array([1, 1, 2, 2])
    counted = count(BINARY, day, np.array(list("abab")), np.array([1, 0, 1, 0]), np.full(4, 0.6))
    assert {g.group for g in gaps(counted) if g.rate == "true_positive_rate"} == set()
    assert {g.group for g in gaps(counted) if g.rate == "calibration"} == {"a", "b"}


def test_other_rows_are_not_compared() -> None:
    with pytest.raises(SevenfoldError, match="same rows only"):
        changes(count(BINARY, *world(0.1, seed=1)), count(BINARY, *world(0.1, seed=2)))
    with pytest.raises(SevenfoldError, match="above 0"):
        count(BINARY, np.array([]), np.array([]), np.array([]), np.array([]))


def test_a_year_of_days_takes_no_time() -> None:
    table = np.random.default_rng(0).uniform(1, 100, size=(365, 20, 7))
    table += np.array([500.0, 0.0, 100.0, 0.0, 100.0, 0.0, 500.0])
    counted = Counts([str(group) for group in range(20)], ["hits", "false alarms", "calibration"], table)
    started = time.process_time()
    assert len(gaps(counted)) == 60
    assert time.process_time() - started < 3
