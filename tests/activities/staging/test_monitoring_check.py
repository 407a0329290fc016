"""The monitoring check: all is noticed; and a monitoring that is blind, or cries wolf, is found out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import MODEL
from tests.activities.staging.real_gate import verdicts

from activities.monitoring import retraining_trigger
from activities.staging import monitoring_check
from sevenfold.activity import Activity
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.errors import SevenfoldError
from sevenfold.model import tasks
from sevenfold.monitoring import alarm, service_alarm

METRICS = ("missed_alerts", "false_alarms")


@pytest.fixture
def activity(live: LiveWorld) -> Activity:
    (live.settings.models / MODEL / "alarm.yaml").write_text("min_rows: 200\n")
    candidate = live.proven(live.candidate(), until="staging")
    return live.handle("monitoring_check", live.begin(candidate, "staging"))


def test_every_planted_fault_raises_its_alert_and_nothing_else_does(
    live: LiveWorld, activity: Activity
) -> None:
    monitoring_check.main(activity)
    found = {m.metric: m for m in live.store.measurements(activity.promotion.id)}
    assert (found["missed_alerts"].value, found["missed_alerts"].n) == (0, 4)
    assert (found["false_alarms"].value, found["false_alarms"].n) == (0, 7)
    assert verdicts(activity, METRICS) == ["Successful", "Successful"]
    [report] = live.store.reports(activity.promotion.id)
    page = live.artifacts.read(report.path).decode()
    for said in ("harmful_drift", "error_rate", "latency", "unlogged", "must be trained again", "full disk"):
        assert said in page
    assert live.store.alerts(MODEL) == [], "what is planted in the mirror is seen by nobody else"
    assert live.store.promotions(MODEL, "monitoring") == []
    kept = live.settings.home / "monitoring" / MODEL
    assert [path.name for path in kept.rglob("*") if path.is_file()] == [f"{activity.candidate.id}.json"]


def test_blind_monitoring_is_found_out(activity: Activity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_alarm, "BURN", 1000.0)
    monkeypatch.setattr(service_alarm, "lost_lines", lambda replicas: {})
    monkeypatch.setattr(retraining_trigger, "raise_alarm", lambda *_: None)
    monitoring_check.main(activity)
    assert verdicts(activity, METRICS) == ["Failed", "Successful"]


def test_an_alarm_that_cries_wolf_is_found_out(activity: Activity, monkeypatch: pytest.MonkeyPatch) -> None:
    wolf = service_alarm.Finding(service_alarm.SLOW, 0.5, "a wolf")
    monkeypatch.setattr(service_alarm, "judge", lambda *_: [wolf])
    monkeypatch.setattr(monitoring_check, "drift_worlds", lambda *_: [])
    monitoring_check.main(activity)
    assert verdicts(activity, ["false_alarms"]) == ["Failed"]


def test_a_drifted_world_is_unlikely_and_harmful(live: LiveWorld, activity: Activity) -> None:
    start = activity.candidate.train_window[0]
    rows = snapshot(activity.spec, live.settings.data).labelled(
        start, start + timedelta(days=14), columns=activity.spec.columns
    )
    scorer = Scorer(activity.model_file(activity.candidate))
    usual = scorer.predict(rows)
    world = monitoring_check.drifted(activity.spec.task, rows, usual, alarm.AlarmRule())
    now = scorer.predict(world)
    assert world.num_rows == rows.num_rows and pc.count_distinct(world["id"]).as_py() == rows.num_rows
    assert now.max() <= np.quantile(usual, 0.26)
    assert world["label"].to_numpy().sum() / now.sum() > 2 * 1.5
    assert world["time"].equals(rows["time"])


def test_where_nothing_is_beyond_the_alarm_nothing_can_be_planted(
    live: LiveWorld, activity: Activity
) -> None:
    start = activity.candidate.train_window[0]
    rows = snapshot(activity.spec, live.settings.data).labelled(start, start + timedelta(days=7))
    with pytest.raises(SevenfoldError, match=r"more than 1\.5 times what is expected \(at most 1\.00\)"):
        monitoring_check.drifted(activity.spec.task, rows, np.ones(rows.num_rows), alarm.AlarmRule())


def test_a_regression_is_drifted_by_its_own_measure() -> None:
    """A tenth of the rows misses by three spreads: there is harm in them."""
    task = tasks.of({"name": "regression", "unit": "degrees", "tolerance": 1.0})
    n = 400
    predictions = np.stack([np.linspace(0, 10, n), np.ones(n)], axis=1)
    label = predictions[:, 0] + np.where(np.arange(n) % 10 == 0, 3.0, 0.3)
    known = pa.array([datetime(2013, 1, 1, tzinfo=UTC)] * n)
    rows = pa.table({"id": [str(i) for i in range(n)], "time": known, "label": label, "known_at": known})
    rows = rows.append_column("mean", pa.array(predictions[:, 0]))
    world = monitoring_check.drifted(task, rows, predictions, alarm.AlarmRule(harm_ratio=3))
    assert world["mean"].to_numpy().max() < 2.6
    assert np.mean((world["label"].to_numpy() - world["mean"].to_numpy()) ** 2) >= 6


def test_a_candidate_of_too_short_a_training_is_said(activity: Activity, live: LiveWorld) -> None:
    (live.settings.models / MODEL / "alarm.yaml").write_text("min_rows: 200\nweeks: 9\nlook_back: 9\n")
    with pytest.raises(SevenfoldError, match="trained on 5 complete weeks, its alarm looks at 9"):
        monitoring_check.main(activity)
