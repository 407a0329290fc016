"""The rehearsed canary on a real gateway, shortened; and its plan at full length."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from tests.activities.live_stack import LiveWorld

from activities.staging import canary
from sevenfold.canary import verdict_so_far
from sevenfold.cluster import local_cluster
from sevenfold.load import LoadResult, Schedule
from sevenfold.trial import Target
from sevenfold.verdict import Verdict


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "RATE", 2.0)
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


def test_without_a_champion_the_candidate_gets_everything(
    live: LiveWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The gateway and the load are played by the test: every third request fails, every fifth is slow."""

    def generate(host: str, kinds: object, schedule: Schedule, **_: object) -> LoadResult:
        assert set(schedule.kind) == {canary.CANDIDATE}
        n = len(schedule.due)
        latency = np.where(np.arange(n) % 5 == 0, 900.0, 5.0)
        status = np.where(np.arange(n) % 3 == 0, 503, 200)
        (tmp_path / "report.html").write_text("locust")
        due, kind = np.array(schedule.due), np.array(schedule.kind)
        return LoadResult(due, latency, latency, status, kind, ["candidate"], tmp_path / "report.html")

    monkeypatch.setattr(canary, "generate", generate)
    monkeypatch.setattr(canary, "on_trial", lambda *_: nullcontext(Target("http://nowhere", "/x", "key")))
    activity = live.handle("canary", live.begin(live.candidate(weight=1.3), "staging"))
    activity.__dict__["champion"] = None
    canary.main(activity)
    readings = live.store.measurements(activity.promotion.id)
    assert {m.baseline for m in readings} == {"none"}
    assert {tuple(sorted(m.counts)) for m in readings} == {("e1", "n1")}
    for metric, bad in (("errors", 50), ("slow", 30)):
        mine = [m for m in readings if m.metric == metric]
        assert sum(m.counts["n1"] for m in mine) == 150
        assert sum(m.counts["e1"] for m in mine) == bad
    assert verdict_so_far(activity)[0] is Verdict.FAILED


def test_the_plan_proves_one_error_in_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    from sevenfold.rules.binomial import log_evidence

    monkeypatch.undo()
    schedule, intervals = canary.plan(150, alone=False)
    candidates = schedule.kind.count(canary.CANDIDATE)
    assert log_evidence(0, candidates, 0.01)[0] > 3.69  # 40 to 1: two ways to pass at 5 %
    assert schedule.due[-1] <= 11.0
    assert [share for *_, share in intervals] == sorted(share for *_, share in intervals)
    assert intervals[-1][1] == pytest.approx(11.0)
