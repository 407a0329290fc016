"""The load test on a real gateway, shortened; and its plan at full length."""

from __future__ import annotations

import pytest
from tests.activities.live_stack import LiveWorld

from activities.staging import load_test


def test_errors_p99_and_throughput_are_measured(live: LiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_test, "SUSTAINED_REQUESTS", 100)
    monkeypatch.setattr(load_test, "SUSTAINED_S", (1.0, 2.0))
    monkeypatch.setattr(load_test, "ALL_REQUESTS", 300)
    candidate = live.proven(live.candidate(), until="staging")
    activity = live.handle("load_test", live.begin(candidate, "staging"))
    load_test.main(activity)
    readings = {m.metric: m for m in live.store.measurements(activity.promotion.id)}
    assert readings["error_rate"].counts == {"bad": 0, "n": readings["error_rate"].n}
    assert readings["error_rate"].n == pytest.approx(300, abs=2)  # the warm-up does not count
    assert readings["p99_ms"].n == 100
    assert 0 < readings["p99_ms"].low <= readings["p99_ms"].value <= readings["p99_ms"].high
    assert 50 < readings["throughput"].value < 250
    reports = {
        r.path.rsplit("/", 1)[-1]: live.artifacts.read(r.path)
        for r in live.store.reports(activity.promotion.id)
    }
    assert b"8 rows" in reports["locust.html"]
    assert b"Bearer" not in reports["locust.html"]
    assert set(reports) == {"locust.html"}


def test_the_plan_has_what_the_gate_needs() -> None:
    schedule, burst_at = load_test.plan(100)
    warm = sum(due < load_test.WARM_UP_S for due in schedule.due)
    sustained = sum(load_test.WARM_UP_S <= due < burst_at for due in schedule.due)
    assert sustained >= 1000
    assert len(schedule.due) - warm >= 3000
    assert schedule.due[-1] < 20
    assert schedule.kind.count(1) == pytest.approx(len(schedule.due) / 4, abs=2)
    assert list(schedule.due) == sorted(schedule.due)
