"""non_inferior, auc, latency_pairs, fairness: candidate against champion, decided once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gate_case import judged, metric, reading

from sevenfold.gates.rules import Unusable
from sevenfold.gates.rules.latency_pairs import paired_runs
from sevenfold.gates.rules.spending import spend
from sevenfold.gates.verdict import Verdict
from sevenfold.measures import evaluation

S, H, E, F = Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED
LOSS = metric(rule="non_inferior", baseline="champion", margin=0.01, alpha=0.025)
AUC = metric(
    metric="auc", unit="rank", rule="auc", baseline="champion", margin=0.01, alpha=0.025, direction="higher"
)
LATENCY = metric(metric="p99", unit="ms", rule="latency_pairs", baseline="champion", margin=1.1)
GAP = metric(metric="gap", unit="share", rule="fairness", limit=0.2, alpha=0.025)
GROWTH = metric(metric="gap", unit="share", rule="fairness", baseline="champion", margin=0.1, alpha=0.025)


@pytest.mark.parametrize(
    ("low", "difference", "high", "verdict"),
    [
        (-0.010, -0.003, 0.004, S),
        (-0.010, 0.000, 0.011, H),
        (0.001, 0.005, 0.009, S),  # proven worse, and proven within the margin
        (0.001, 0.008, 0.015, F),
        (0.020, 0.022, 0.024, F),
    ],
)
def test_non_inferior_by_its_interval(low: float, difference: float, high: float, verdict: Verdict) -> None:
    found = reading(LOSS, 0.5 + difference, baseline_value=0.5, low=low, high=high)
    assert judged(LOSS, [found]).verdict is verdict
    se = (high - low) / 2 / 1.959964
    mean = (high + low) / 2
    same = reading(LOSS, 0.5, baseline_value=0.49, counts={"mean_diff": mean, "se": se})
    assert judged(LOSS, [same]).verdict is verdict


def test_higher_is_better_turns_the_sides() -> None:
    counts = {"mean_diff": -0.002, "se": 0.003, "clusters": 30}
    found = reading(AUC, 0.758, baseline_value=0.760, counts=counts)
    run = judged(AUC, [found])
    assert run.verdict is S
    assert "0.002 worse than the champion's" in run.reason
    lost = reading(AUC, 0.708, baseline_value=0.744, counts={"mean_diff": -0.036, "se": 0.003})
    assert judged(AUC, [lost]).verdict is F


@pytest.mark.parametrize(("value", "baseline"), [(1.2, 0.7), (0.7, -0.1), (None, 0.7), (0.7, None)])
def test_what_is_no_auc_is_an_error(value: float | None, baseline: float | None) -> None:
    found = reading(AUC, value, baseline_value=baseline, counts={"mean_diff": 0.0, "se": 0.001})
    assert judged(AUC, [found]).verdict is E


def test_the_auc_rule_keeps_its_risk_on_days_that_hang_together() -> None:
    """A challenger exactly the margin worse passes in at most 2.5 % of draws (6 of 150 within its noise)."""
    rng = np.random.default_rng(3)
    differences, passes = [], []
    for _ in range(150):
        days = np.repeat(np.arange(40), 25)
        day = rng.normal(size=40)[days] * 0.8
        signal = rng.normal(size=1000)
        label = (signal + day + rng.normal(size=1000) > 0.8).astype(float)
        strong, weak = signal + 0.2 * day + rng.normal(size=1000) * 0.5, signal + rng.normal(size=1000) * 0.66
        found = evaluation.auc_difference(label, weak, strong, days)
        differences.append(found.value)
        passes.append(found)
    margin = -float(np.mean(differences))
    at_margin = AUC.model_copy(update={"margin": margin})
    verdicts = [
        judged(at_margin, [reading(AUC, 0.7, baseline_value=0.7, counts=found.difference_counts)]).verdict
        for found in passes
    ]
    assert np.mean([verdict is S for verdict in verdicts]) <= 0.06


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.05, 0.05), st.floats(0.0001, 0.02), st.floats(0, 0.05))
def test_a_larger_loss_never_helps(difference: float, se: float, worse: float) -> None:
    verdicts = [
        judged(LOSS, [reading(LOSS, 0.5, counts={"mean_diff": mean, "se": se})]).verdict
        for mean in (difference, difference + worse)
    ]
    assert verdicts[1] >= verdicts[0]


def test_latency_of_interleaved_runs() -> None:
    rng = np.random.default_rng(4)
    champion = 100 * np.exp(rng.normal(0, 0.03, 12))
    same = paired_runs(champion * np.exp(rng.normal(0, 0.03, 12)), champion)
    slow = paired_runs(champion * 1.3, champion * np.exp(rng.normal(0, 0.03, 12)))
    assert judged(LATENCY, [reading(LATENCY, 100.0, counts=same)]).verdict is S
    assert judged(LATENCY, [reading(LATENCY, 130.0, counts=slow)]).verdict is F


def test_a_ratio_within_the_margin_that_is_not_proven_holds() -> None:
    noisy = {"mean_log_ratio": 0.0, "se": 0.2, "pairs": 8.0}
    assert judged(LATENCY, [reading(LATENCY, 100.0, counts=noisy)]).verdict is H


def test_few_pairs_of_runs_say_nothing() -> None:
    counts = paired_runs([100.0] * 5, [101.0, 99.0, 100.0, 102.0, 100.0])
    run = judged(LATENCY, [reading(LATENCY, 100.0, counts=counts)])
    assert run.verdict is E
    assert "5 pairs of runs are too few" in run.reason


@pytest.mark.parametrize("runs", [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_what_makes_no_pairs_is_refused(runs: tuple[list[float], list[float]]) -> None:
    with pytest.raises(Unusable):
        paired_runs(*runs)


@pytest.mark.parametrize(
    ("low", "size", "high", "verdict"),
    [(0.03, 0.07, 0.11, S), (0.1, 0.18, 0.26, H), (0.21, 0.3, 0.4, F), (0.0, 0.01, 0.05, S)],
)
def test_a_gap_is_judged_by_its_size(low: float, size: float, high: float, verdict: Verdict) -> None:
    for signed in (size, -size):
        assert judged(GAP, [reading(GAP, signed, low=low, high=high)]).verdict is verdict


def test_a_gap_may_not_grow_over_the_champions() -> None:
    def growth(by: float, se: float) -> Verdict:
        counts = {"mean_diff": by, "se": se, "clusters": 30.0}
        return judged(GROWTH, [reading(GROWTH, 0.05 + by, baseline_value=0.05, counts=counts)]).verdict

    assert growth(0.02, 0.02) is S
    assert growth(0.02, 0.06) is H
    assert growth(0.15, 0.02) is F


def test_alpha_spent_for_ever_is_alpha() -> None:
    assert sum(spend(0.05, use) for use in range(1, 200_000)) == pytest.approx(0.05, rel=1e-4)
    assert spend(0.05, 1) > spend(0.05, 2) > spend(0.05, 3)
    with pytest.raises(ValueError, match="first time"):
        spend(0.05, 0)
