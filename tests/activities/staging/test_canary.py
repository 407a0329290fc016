"""The rehearsed canary on a real gateway, shortened; and its plan at full length."""

from __future__ import annotations

import pytest
from tests.activities.live_stack import LiveWorld

from activities.staging import canary
from sevenfold.cluster import local_cluster


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "RATE", 100.0)
    monkeypatch.setattr(canary, "STEPS", ((0.2, 1.0), (0.5, 2.0)))
    monkeypatch.setattr(canary, "INTERVAL_S", 1.0)


def test_beside_the_champion_both_arms_are_counted_by_interval(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(weight=1.4), until="staging")
    champion = live.proven(live.candidate(weight=1.0), until="staging")
    activity = live.handle("canary", live.begin(candidate, "staging"))
    activity.__dict__["champion"] = champion
    canary.main(activity)
    readings = live.store.measurements(activity.promotion.id)
    for metric in ("errors", "slow"):
        mine = [m for m in readings if m.metric == metric]
        assert len({m.interval for m in mine}) == 3
        assert {m.baseline_candidate for m in mine} == {champion.id}
        assert [m.counts["share"] for m in mine] == [0.2, 0.5, 0.5]
        assert [m.counts["n1"] + m.counts["n0"] for m in mine] == [100, 100, 100]
        assert 5 < mine[0].counts["n1"] < 40 < sum(m.counts["n1"] for m in mine[1:]) < 140
    assert sum(m.counts["e1"] + m.counts["e0"] for m in readings if m.metric == "errors") == 0
    assert not local_cluster().deployments("coin", "staging")
    assert not local_cluster().deployments("coin", "staging-champion")


def test_without_a_champion_the_candidate_gets_everything(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(weight=1.3), until="staging")
    activity = live.handle("canary", live.begin(candidate, "staging"))
    activity.__dict__["champion"] = None
    canary.main(activity)
    readings = live.store.measurements(activity.promotion.id)
    assert {m.baseline for m in readings} == {"none"}
    assert {tuple(sorted(m.counts)) for m in readings} == {("e1", "n1")}
    assert sum(m.counts["n1"] for m in readings if m.metric == "errors") == 300


def test_the_plan_proves_one_error_in_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    from sevenfold.rules.binomial import log_evidence

    monkeypatch.undo()
    schedule, intervals = canary.plan(alone=False)
    candidates = schedule.kind.count(canary.CANDIDATE)
    assert log_evidence(0, candidates, 0.01)[0] > 3.69  # 40 to 1: two ways to pass at 5 %
    assert schedule.due[-1] <= 10.0
    assert [share for *_, share in intervals] == sorted(share for *_, share in intervals)
    assert intervals[-1][1] == pytest.approx(10.0)
