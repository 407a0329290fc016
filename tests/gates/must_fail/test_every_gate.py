"""Every gate of every model can fail: each of its metrics, alone, keeps a candidate from passing.

The models are those that ship, and one of each kind of task as `sevenfold new-model` makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
from tests.every_model import every_model
from tests.gate_case import CHAMPION, NOW, interval, judged, reading

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy, load_policy
from sevenfold.gates.verdict import Verdict
from sevenfold.settings import REPOSITORY

load = lru_cache(load_policy)
GATES = sorted(path for folder in every_model() for path in folder.glob("gates/*.yaml"))
METRICS = [(path, number) for path in GATES for number in range(len(load(path).metrics))]


def readings(of: Metric, good: bool) -> list[Measurement]:
    """What an activity leaves of a metric when the candidate is clearly good, or clearly not."""
    if of.slices is None:
        return _MADE[of.rule](of, good)
    names = ["some", "other"] if of.slices == "every" else of.slices
    return [found.model_copy(update={"slice": name}) for name in names for found in _MADE[of.rule](of, good)]


def absolute(of: Metric, good: bool) -> list[Measurement]:
    if of.unit == "share" and 0 < (of.limit or 0) < 1:
        share_of_bad = (0.0 if good else 0.5) if of.direction == "lower" else (0.0 if good else 0.9)
        return [reading(of, share_of_bad, counts={"bad": 10_000 * share_of_bad, "n": 10_000})]
    low, high = of.within or (of.limit or 0.0, of.limit or 0.0)
    far = max(1.0, abs(high), abs(low))
    inside = (low + high) / 2 if of.within else (low + far if of.direction == "higher" else high - far)
    outside = low - far if of.direction == "higher" else high + far
    value = inside if good else outside
    return [reading(of, value, low=value - far / 100, high=value + far / 100)]


def contract(of: Metric, good: bool) -> list[Measurement]:
    return [reading(of, 0 if good else 1)]


def compared(of: Metric, good: bool) -> list[Measurement]:
    margin = of.margin or 0.0
    worse = -margin if good else 3 * margin
    difference = worse if of.direction == "lower" else -worse
    counts = {"mean_diff": difference, "se": margin / 20, "clusters": 30.0}
    return [reading(of, 0.5 + difference, baseline_value=0.5, counts=counts)]


def gap(of: Metric, good: bool) -> list[Measurement]:
    if of.baseline != "none":
        return compared(of, good)
    size = (of.limit or 0.0) * (0.3 if good else 2.0)
    return [reading(of, size, low=size * 0.9, high=size * 1.1)]


def live(of: Metric, good: bool) -> list[Measurement]:
    bad = 100 if good else 400
    end = {"window_end": NOW - of.matured_after} if of.matured_after else {}
    return [interval(of, f"{key:03}", bad, 2000, 200, 4000, **end) for key in range(40)]


def share(of: Metric, good: bool) -> list[Measurement]:
    counts = {"bad": 0 if good else 9_000, "n": 10_000}
    return [reading(of, 0.0, counts=counts, interval="1" if of.polled else None)]


def pairs(of: Metric, good: bool) -> list[Measurement]:
    counts = {"mean_log_ratio": 0.0 if good else 1.0, "se": 0.02, "pairs": 10.0}
    return [reading(of, 5.0, baseline_value=5.0, counts=counts)]


_MADE: dict[str, Callable[[Metric, bool], list[Measurement]]] = {
    "at_most": absolute,
    "at_least": absolute,
    "within": absolute,
    "all_true": contract,
    "non_inferior": compared,
    "auc": compared,
    "fairness": gap,
    "rate_ratio": live,
    "binomial": share,
    "latency_pairs": pairs,
}


def measured(policy: Policy, *, bad: int | None = None, missing: int | None = None) -> list[Measurement]:
    """Readings of a whole gate, all good but for the metric number `bad`, without the metric `missing`."""
    return [
        found
        for number, metric in enumerate(policy.metrics)
        if number != missing
        for found in readings(metric, good=number != bad)
    ]


def name(case: tuple[Path, int] | Path) -> str:
    path, number = case if isinstance(case, tuple) else (case, None)
    said = f"{path.parts[-3]}-{path.stem}"
    return said if number is None else f"{said}-{load(path).metrics[number].metric}-{number}"


@pytest.mark.parametrize("path", GATES, ids=name)
def test_a_good_candidate_passes(path: Path) -> None:
    policy = load(path)
    run = judged(policy, measured(policy), data_now=NOW, anchor=CHAMPION)
    assert run.verdict is Verdict.SUCCESSFUL, run.reason


@pytest.mark.parametrize("case", METRICS, ids=name)
def test_each_metric_can_keep_a_candidate_from_passing(case: tuple[Path, int]) -> None:
    path, number = case
    policy = load(path)
    run = judged(policy, measured(policy, bad=number), data_now=NOW, anchor=CHAMPION)
    print(f"{policy.environment}: {run.verdict}. {run.reason}")
    expected = Verdict.FAILED if policy.metrics[number].critical else Verdict.INCONCLUSIVE
    assert run.verdict is expected
    refused = {(r.activity, r.metric, r.rule) for r in run.metrics if r.verdict is not Verdict.SUCCESSFUL}
    asked = policy.metrics[number]
    assert refused == {(asked.activity, asked.metric, asked.rule)}


@pytest.mark.parametrize("case", METRICS, ids=name)
def test_each_metric_must_be_measured(case: tuple[Path, int]) -> None:
    path, number = case
    policy = load(path)
    run = judged(policy, measured(policy, missing=number), data_now=NOW, anchor=CHAMPION)
    print(f"{policy.environment}: {run.verdict}. {run.reason}")
    assert run.verdict is Verdict.ERROR


@pytest.mark.parametrize("case", METRICS, ids=name)
def test_each_metric_is_measured_by_an_activity_of_its_environment(case: tuple[Path, int]) -> None:
    path, number = case
    policy = load(path)
    metric = policy.metrics[number]
    program = REPOSITORY / "include" / "activities" / policy.environment / f"{metric.activity}.py"
    assert program.is_file(), (
        f"{path} asks {metric.metric} of {metric.activity}, and {program} does not exist"
    )


@pytest.mark.parametrize(
    "case", [case for case in METRICS if load(case[0]).metrics[case[1]].max_uses], ids=name
)
def test_whoever_has_a_budget_of_looks_counts_them(case: tuple[Path, int]) -> None:
    """A look that is not counted is an Error at the gate: here it is found before."""
    path, number = case
    policy = load(path)
    asked = policy.metrics[number]
    program = REPOSITORY / "include" / "activities" / policy.environment / f"{asked.activity}.py"
    assert "use_test_set(" in program.read_text(), f"{program} looks at a test set and does not count it"
