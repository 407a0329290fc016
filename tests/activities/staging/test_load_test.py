"""The load test on a real gateway, shortened; its plan at full length; worlds in which the gate refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.small_world import World
from tests.activities.staging.real_gate import verdicts

from activities.staging import load_test
from sevenfold.load import LoadResult, Schedule

METRICS = ("error_rate", "p99_ms", "headroom", "latency")


def test_beside_the_champion_everything_is_measured(live: LiveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_test, "PROMISED_REQUESTS", 150)
    monkeypatch.setattr(load_test, "EXPLORE", (10.0, 12.0))
    monkeypatch.setattr(load_test, "EXPLORE_S", 0.3)
    candidate = live.proven(live.candidate(weight=1.4), until="staging")
    champion = live.proven(live.candidate(weight=1.0), until="staging")
    activity = live.handle("load_test", live.begin(candidate, "staging"))
    activity.__dict__["champion"] = champion
    load_test.main(activity)
    readings = {m.metric: m for m in live.store.measurements(activity.promotion.id)}
    assert readings["error_rate"].counts == {"bad": 0, "n": readings["error_rate"].n}
    assert readings["error_rate"].n > 157  # the warm-up and the champion's requests do not count
    assert readings["p99_ms"].n == pytest.approx(158, abs=10)
    assert 0 < readings["p99_ms"].low <= readings["p99_ms"].value <= readings["p99_ms"].high
    assert readings["headroom"].value >= 1
    pairs = readings["latency"]
    assert (pairs.n, pairs.counts["pairs"], pairs.baseline_candidate) == (10, 10, champion.id)
    assert abs(pairs.counts["mean_log_ratio"]) < 1, "the same program"
    reports = {
        r.path.rsplit("/", 1)[-1]: live.artifacts.read(r.path)
        for r in live.store.reports(activity.promotion.id)
    }
    assert list(reports) == ["locust.html", "load.html"]
    assert b"8 rows" in reports["locust.html"]
    assert reports["load.html"].count(b"data:image/png") == 3
    assert not any(b"Bearer" in content for content in reports.values())


@pytest.mark.parametrize("compared", [False, True])
def test_the_plan_has_what_the_gate_needs(compared: bool) -> None:
    schedule, explore_from = load_test.plan(100, promised=1000, everything=3000, compared=compared)
    due, kind = np.array(schedule.due), np.array(schedule.kind)
    ours = kind <= max(load_test.MIX)
    promised = [step for step in schedule.steps if step.name == load_test.PROMISED]
    assert sum(((due >= s.start) & (due < s.end)).sum() for s in promised) >= 1000
    assert ((due >= load_test.WARM_UP_S) & (due < explore_from) & ours).sum() >= 3000
    assert explore_from < (23 if compared else 17)
    assert schedule.seconds < explore_from + 4
    assert list(due) == sorted(due)
    assert (kind[ours] == 1).mean() == pytest.approx(0.25, abs=0.01)
    names = [step.name for step in schedule.steps if step.name != load_test.RAMP][1:]
    a, b = load_test.PROMISED, load_test.CHAMPION
    assert names == ([a, b, b, a] * 5 if compared else [a])
    offered = [step.rate for step in schedule.steps if step.name == load_test.RAMP]
    assert offered == sorted(offered) and offered[0] == 200


World_ = Callable[[Schedule, np.ndarray, np.ndarray], None]


def usual(schedule: Schedule, latency: np.ndarray, status: np.ndarray) -> None:
    """Everybody takes 3 to 5 ms up to 800 requests a second; from there on a queue grows."""


def failing(schedule: Schedule, latency: np.ndarray, status: np.ndarray) -> None:
    """One of a hundred fails."""
    status[::100] = 503


def late(schedule: Schedule, latency: np.ndarray, status: np.ndarray) -> None:
    """One of fifty, the champion's too, takes 150 ms and more."""
    latency[::50] += np.linspace(147, 160, num=len(latency[::50]))


def narrow(schedule: Schedule, latency: np.ndarray, status: np.ndarray) -> None:
    """A queue grows above the promised rate."""
    latency[np.array(schedule.due) >= next(s.start for s in schedule.steps if s.rate > 100)] = 800


def slower(schedule: Schedule, latency: np.ndarray, status: np.ndarray) -> None:
    """The candidate takes three times as long as the champion."""
    latency[np.array(schedule.kind) <= max(load_test.MIX)] *= 3


@pytest.mark.parametrize(
    ("happens", "refused"),
    [(usual, None), (failing, "error_rate"), (late, "p99_ms"), (narrow, "headroom"), (slower, "latency")],
)
def test_each_fault_is_refused_by_its_own_metric(
    tmp_path: Path, happens: World_, refused: str | None
) -> None:
    world = World(tmp_path)
    text = (world.settings.models / "coin" / "model.yaml").read_text()
    text = text.replace("rate: 50, p99_ms: 500", "rate: 100, p99_ms: 100")
    (world.settings.models / "coin" / "model.yaml").write_text(text)
    champion = world.candidate(weight=1.0)
    activity = world.activity("load_test", "staging", world.candidate(), champion)
    schedule, explore_from = load_test.plan(100, 1000, 3000, compared=True)
    due = np.array(schedule.due)
    random = np.random.default_rng(1)
    latency = random.uniform(3, 5, size=len(due))
    latency[due >= next(step.start for step in schedule.steps if step.rate > 800)] = 700
    status, kind = np.full(len(due), 200), np.array(schedule.kind)
    happens(schedule, latency, status)
    found = LoadResult(due, latency, latency, status, kind, ["1 row", "8 rows"] * 2, Path())
    sentences = load_test.measure(activity, found, schedule.steps, explore_from)
    assert len(sentences) == 4
    expected = ["Failed" if metric == refused else "Successful" for metric in METRICS]
    assert verdicts(activity, METRICS) == expected
