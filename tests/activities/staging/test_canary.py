"""The rehearsed canary on a real gateway, shortened: a good and a bad candidate; its plan at full length."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import World

from activities.staging import canary
from sevenfold.candidates.candidate import Candidate
from sevenfold.cluster import open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gates.policy import load_gate
from sevenfold.gates.rules.binomial import log_evidence
from sevenfold.gates.verdict import Verdict
from sevenfold.load import LoadResult
from sevenfold.model.spec import load_spec
from sevenfold.release import release
from sevenfold.release.canary import verdict_so_far
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.rollout import Step
from sevenfold.settings import REPOSITORY

PROVEN = 3.69
"""Logarithm of 40 to 1: two ways to pass at 5 %."""
STEPS = [Step(0.05, 1, 1.0, 1.0), Step(0.25, 1, 1.0, 1.0), Step(0.5, 1, 4.0, 4.0)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "LAST_S", 2.0)
    monkeypatch.setattr(canary, "needed", lambda activity: 0)


def reigns(champion: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What serves production, as far as activity and gate know."""
    monkeypatch.setattr(release, "row", lambda store, model: ReleaseRow(model=model, champion=champion.id))


def test_beside_the_champion_both_arms_are_counted_by_interval(
    live: LiveWorld, short: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = live.proven(live.candidate(weight=1.4), until="staging")
    champion = live.proven(live.candidate(weight=1.0), until="staging")
    activity = live.handle("canary", live.begin(candidate, "staging"))
    reigns(champion, monkeypatch)
    steps = canary.rehearsed(activity, 100, alone=False)
    assert [step.share for step in steps] == [0.25, 0.5], "those of production's gate"
    canary.main(activity)
    readings = live.store.measurements(activity.promotion.id)
    for metric in ("errors", "slow"):
        mine = [m for m in readings if m.metric == metric]
        assert len({m.interval for m in mine}) == 3
        assert {m.baseline_candidate for m in mine} == {champion.id}
        assert [m.counts["share"] for m in mine] == [0.25, 0.5, 0.5]
        assert [m.counts["n1"] + m.counts["n0"] for m in mine] == [150] * 3
        assert 20 < mine[0].counts["n1"] < 55 < mine[1].counts["n1"] < 100
    assert sum(m.counts["e1"] + m.counts["e0"] for m in readings if m.metric == "errors") == 0
    assert "went through 2 steps to 50%" in capsys.readouterr().out
    assert not open_cluster().deployments("coin", "staging")
    assert not open_cluster().deployments("coin", "staging-champion")


def test_a_candidate_that_cannot_answer_some_rows_is_stopped_and_refused(
    live: LiveWorld, short: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers zeros, so it starts; for some rows its arithmetic overflows to no number."""
    candidate = live.proven(live.candidate(breaks=3e38), until="staging")
    champion = live.proven(live.candidate(weight=0.9), until="staging")
    activity = live.handle("canary", live.begin(candidate, "staging"))
    reigns(champion, monkeypatch)
    canary.main(activity)
    verdict, reason = verdict_so_far(activity)
    assert verdict is Verdict.FAILED, reason
    errors = [m for m in live.store.measurements(activity.promotion.id) if m.metric == "errors"]
    assert sum(m.counts["e1"] for m in errors) > 0 == sum(m.counts["e0"] for m in errors)
    assert len(errors) < 3, "what the live rule stops is not counted further"
    assert "stopped at" in capsys.readouterr().out


def test_without_a_champion_the_candidate_gets_everything_and_absolute_limits_decide(
    live: LiveWorld, tmp_path: Path
) -> None:
    """The load is played by the test: every third request fails, every fifth is slow."""
    activity = live.handle("canary", live.begin(live.candidate(weight=1.3), "staging"))
    activity.__dict__["champion"] = None
    steps = canary.rehearsed(activity, 100, alone=True)
    assert [step.share for step in steps] == [1.0]
    schedule = canary.plan(100, steps)
    assert set(schedule.kind) == {canary.CANDIDATE}
    n = len(schedule.due)
    latency = np.where(np.arange(n) % 5 == 0, 900.0, 5.0)
    status = np.where(np.arange(n) % 3 == 0, 503, 200)
    due, kind = np.array(schedule.due), np.array(schedule.kind)
    found = LoadResult(due, latency, latency, status, kind, ["candidate"], tmp_path)
    outcome = canary.Rehearsal(activity, found, activity.promotion.began_at, compared=False).go(steps)
    assert outcome.failed and outcome.polls == 1, "the first interval proves it"
    readings = live.store.measurements(activity.promotion.id)
    assert {m.baseline for m in readings} == {"none"}
    assert {tuple(sorted(m.counts)) for m in readings} == {("e1", "n1")}
    assert verdict_so_far(activity)[0] is Verdict.FAILED


def test_a_gate_of_production_without_steps_is_said(tmp_path: Path) -> None:
    world = World(tmp_path)
    gates = world.settings.models / "coin" / "gates"
    gates.mkdir()
    (gates / "production.yaml").write_text(
        "environment: production\nmodel: coin\ndescription: No steps are in here.\nmetrics:\n"
        "  - {metric: a, activity: serve, unit: rows, direction: lower, rule: all_true,"
        " meaning: nothing in particular}\n"
    )
    activity = world.activity("canary", "staging", world.candidate())
    with pytest.raises(SevenfoldError, match=r"production\.yaml has no steps"):
        canary.rehearsed(activity, 100, alone=False)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("model", ["flight_delay", "air_temperature"])
def test_the_canary_of_a_shipped_model_is_long_enough_for_its_own_gate(
    monkeypatch: pytest.MonkeyPatch, model: str, alone: bool
) -> None:
    """A service that promises half the requests has as many, in more time."""
    models = REPOSITORY / "include" / "models"
    monkeypatch.setattr(canary, "steps_of", lambda of, where: load_gate(models, model, where).steps)
    activity: Any = SimpleNamespace(
        name="canary",
        promotion=SimpleNamespace(model=model, environment="staging"),
        settings=SimpleNamespace(models=models),
    )
    rate = load_spec(model, models).serving.sla.rate * (canary.ALONE_RATE if alone else canary.RATE)
    candidates = canary.plan(rate, canary.rehearsed(activity, rate, alone=alone)).kind.count(canary.CANDIDATE)
    assert log_evidence(0, candidates, 0.01)[0] > PROVEN


@pytest.mark.parametrize(("rate", "steps"), [(300, STEPS), (200, [Step(1.0, 1, 5.0, 5.0)])])
def test_the_plan_proves_one_error_in_a_hundred(rate: float, steps: list[Step]) -> None:
    schedule = canary.plan(rate, steps)
    candidates = schedule.kind.count(canary.CANDIDATE)
    assert log_evidence(0, candidates, 0.01)[0] > PROVEN
    assert schedule.seconds == pytest.approx(sum(step.seconds for step in steps))
    assert [step.name for step in schedule.steps] == [f"{step.share:.0%}" for step in steps]
