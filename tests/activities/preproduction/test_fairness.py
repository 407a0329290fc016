"""The fairness activity on the small world."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.activities.small_world import World

from activities.preproduction import fairness


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_group_is_measured_alone_and_against_the_champion(world: World) -> None:
    candidate, champion = world.candidate(), world.candidate(weight=0.5)
    activity = world.activity("fairness", "preproduction", candidate, champion)
    fairness.main(activity)
    readings = world.store.measurements(activity.promotion.id)
    rates = {"true_positive_rate_gap", "false_positive_rate_gap", "calibration_gap"}
    slices = {"place=harbour", "place=hill", "place=moor"}
    for baseline in ("none", "champion"):
        found = {(m.metric, m.slice) for m in readings if m.baseline == baseline}
        assert found == {(rate, slice) for rate in rates for slice in slices}
    alone = {(m.metric, m.slice): m for m in readings if m.baseline == "none"}
    assert all(0 <= m.low <= m.value <= m.high for m in alone.values())
    assert sum(m.n for (metric, _), m in alone.items() if metric == "calibration_gap") == pytest.approx(
        1200, abs=30
    )
    for m in readings:
        if m.baseline == "champion":
            assert m.value == pytest.approx(alone[m.metric, m.slice].value)
            assert m.counts["mean_diff"] == pytest.approx(m.value - m.baseline_value)
            assert m.counts["se"] > 0


def test_the_table_is_fairlearns_and_agrees_with_the_gate(world: World) -> None:
    activity = world.activity("fairness", "preproduction", world.candidate())
    fairness.main(activity)
    reports = {r.path.rsplit("/", 1)[-1]: r.path for r in world.store.reports(activity.promotion.id)}
    assert set(reports) == {"fairness.html", "gaps.png"}
    page = world.artifacts.read(reports["fairness.html"]).decode()
    for word in ("harbour", "moor", "true positive rate", "observed rate", "A coin with a pull"):
        assert word in page
    assert not [m for m in world.store.measurements(activity.promotion.id) if m.baseline != "none"]
