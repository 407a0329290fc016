"""Full scale and the roll-back drill on a real gateway, with and without a champion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import MODEL
from tests.every_model import every_model

from activities.preproduction import full_scale_load, rollback_drill
from sevenfold.cluster import open_cluster
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.planner import least_requests
from sevenfold.gates.policy import load_gate
from sevenfold.gateway import Gateway
from sevenfold.model.spec import load_spec
from sevenfold.release.traffic import Traffic


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_scale_load, "FULL_S", 2.0)
    monkeypatch.setattr(full_scale_load, "EXPLORE", (6.0,))
    monkeypatch.setattr(rollback_drill, "SECONDS", 4.0)


def measured(live: LiveWorld, name: str, main: object) -> dict[str, Measurement]:
    candidate = live.proven(live.candidate(weight=1.0 + live.runs / 100), until="preproduction")
    activity = live.handle(name, live.begin(candidate, "preproduction"))
    main(activity)  # type: ignore[operator]
    assert not open_cluster().deployments(MODEL, "shadow-load")
    assert not open_cluster().deployments(MODEL, "shadow-drill")
    return {m.metric: m for m in live.store.measurements(activity.promotion.id)}


def test_twice_the_peak_is_carried_and_the_page_shows_it(live: LiveWorld) -> None:
    found = measured(live, "full_scale_load", full_scale_load.main)
    assert set(found) == {"error_rate", "p99_ms", "headroom"}
    assert found["error_rate"].n >= 2 * 50 * 2 + 4 * 50
    assert found["p99_ms"].n == 2 * 50 * 2
    assert found["headroom"].value in (2.0, 4.0, 6.0)


def test_the_full_scale_is_twice_what_is_promised() -> None:
    schedule, explore_from = full_scale_load.plan(100.0)
    full = [step for step in schedule.steps if step.name == full_scale_load.FULL]
    assert [step.rate for step in full] == [200.0]
    assert explore_from == full[0].end + full_scale_load.CLIMB[1]


@pytest.mark.parametrize("model", every_model(), ids=lambda folder: folder.name)
def test_load_and_drill_last_until_the_gate_of_each_model_can_be_proven(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that promises half the requests is asked twice as long."""
    monkeypatch.undo()
    rate = load_spec(model.name, model.parent).serving.sla.rate
    asked = {
        (metric.activity, metric.metric): metric
        for metric in load_gate(model.parent, model.name, "preproduction").metrics
    }
    p99, errors = asked["full_scale_load", "p99_ms"], asked["full_scale_load", "error_rate"]
    schedule, explore_from = full_scale_load.plan(rate, p99.min_sample, errors.min_sample)
    [full] = [step for step in schedule.steps if step.name == full_scale_load.FULL]
    due = np.array(schedule.due)
    assert ((due >= full.start) & (due < full.end)).sum() >= p99.min_sample
    counted = ((due >= full_scale_load.WARM_UP_S) & (due < explore_from)).sum()
    assert counted >= max(errors.min_sample, least_requests(errors, errors.alpha) or 0)
    lost = asked["rollback_drill", "lost_requests"].min_sample
    assert rollback_drill.seconds(rate, lost) * rate >= lost


@pytest.mark.parametrize("champion", [False, True])
def test_rolled_out_and_back_nothing_is_lost(live: LiveWorld, champion: bool) -> None:
    if champion:
        live.crown(live.candidate(weight=0.5))
    found = measured(live, "rollback_drill", rollback_drill.main)
    assert (found["lost_requests"].value, found["lost_requests"].n) == (0, 4 * 50)
    assert 0 < found["back_s"].value < 5


def test_a_gateway_that_does_not_go_back_is_found(live: LiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Gateway.apply

    def stuck(gateway: Gateway, split: Traffic) -> None:
        if split.champion != rollback_drill.BEFORE or split.generation <= 1 or split.challenger:
            apply(gateway, split)

    monkeypatch.setattr(Gateway, "apply", stuck)
    monkeypatch.setattr(rollback_drill, "SECONDS", 6.0)
    assert measured(live, "rollback_drill", rollback_drill.main)["back_s"].value > 2
