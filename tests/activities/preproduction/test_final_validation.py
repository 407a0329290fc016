"""Final validation on the small world: true numbers, the sealed window only, and pairs with the champion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.activities.small_world import AS_OF, World

from activities.preproduction import final_validation
from sevenfold.measures.evaluation import log_losses


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_without_a_champion_only_the_candidate_is_measured(world: World, capsys) -> None:
    activity = world.activity("final_validation", "preproduction", world.candidate())
    final_validation.main(activity)
    readings = {m.metric: m for m in world.store.measurements(activity.promotion.id)}
    assert set(readings) == {"log_loss", "auc", "observed_over_expected"}
    assert all(
        m.baseline == "none" and m.digest == activity.candidate.model_digest for m in readings.values()
    )
    assert 450 < readings["auc"].n < 8 * 60
    assert readings["auc"].window_end == AS_OF
    assert readings["auc"].low < 0.8 < readings["auc"].high < 1
    assert "no champion: nothing compared" in capsys.readouterr().out
    (report,) = world.store.reports(activity.promotion.id)
    assert world.artifacts.read(report.path).startswith(b"\x89PNG")


def test_a_worse_champion_is_beaten_and_a_better_one_not(world: World) -> None:
    good, weak = world.candidate(), world.candidate(weight=0.3)
    for candidate, champion, sign in ((good, weak, -1), (weak, good, 1)):
        activity = world.activity("final_validation", "preproduction", candidate, champion, run=f"r{sign}")
        final_validation.main(activity)
        readings = world.store.measurements(activity.promotion.id)
        (paired,) = [m for m in readings if m.metric == "log_loss" and m.baseline == "champion"]
        assert paired.baseline_candidate == champion.id
        assert paired.counts["clusters"] == 8
        assert sign * paired.counts["mean_diff"] > 3 * paired.counts["se"] > 0
        assert paired.counts["mean_diff"] == pytest.approx(paired.value - paired.baseline_value)


def test_labels_that_are_not_known_yet_are_not_looked_at(world: World) -> None:
    """The last three hours before as_of have rows whose labels come later."""
    activity = world.activity("final_validation", "preproduction", world.candidate())
    final_validation.main(activity)
    (reading,) = [m for m in world.store.measurements(activity.promotion.id) if m.metric == "log_loss"]
    from sevenfold.data.snapshot import snapshot

    data = snapshot(activity.spec, activity.settings.data)
    late = data.labelled(*(reading.window_start, reading.window_end)).num_rows - reading.n
    assert 0 < late < 30


def test_log_loss_is_that_of_the_artefact(world: World) -> None:
    activity = world.activity("final_validation", "preproduction", world.candidate(weight=0.0, bias=0.0))
    final_validation.main(activity)
    readings = {m.metric: m for m in world.store.measurements(activity.promotion.id)}
    assert readings["log_loss"].value == pytest.approx(float(log_losses(np.ones(1), np.full(1, 0.5))[0]))
    assert readings["auc"].value == 0.5
