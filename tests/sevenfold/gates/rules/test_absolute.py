"""at_least, at_most, within, all_true and the bounds that they stand on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gate_case import judged, metric, reading

from sevenfold.gates.rules import Unusable, bounds
from sevenfold.gates.verdict import Verdict

S, H, E, F = Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED
AT_MOST = metric(rule="at_most", limit=0.5)
AT_LEAST = metric(metric="gain", rule="at_least", direction="higher", limit=0.5)
WITHIN = metric(metric="ratio", unit="ratio", rule="within", direction="inside", within=[0.5, 2.0])


@pytest.mark.parametrize(
    ("of", "low", "value", "high", "verdict"),
    [
        (AT_MOST, 0.40, 0.45, 0.49, S),
        (AT_MOST, 0.40, 0.45, 0.55, H),
        (AT_MOST, 0.45, 0.55, 0.65, H),
        (AT_MOST, 0.51, 0.55, 0.59, F),
        (AT_LEAST, 0.51, 0.55, 0.59, S),
        (AT_LEAST, 0.40, 0.55, 0.60, H),
        (AT_LEAST, 0.40, 0.45, 0.49, F),
        (WITHIN, 0.6, 1.0, 1.9, S),
        (WITHIN, 0.4, 1.0, 1.9, H),
        (WITHIN, 0.6, 1.0, 2.4, H),
        (WITHIN, 2.1, 2.4, 2.7, F),
        (WITHIN, 0.1, 0.2, 0.4, F),
    ],
)
def test_a_bound_decides_not_the_point(of, low, value, high, verdict) -> None:  # type: ignore[no-untyped-def]
    of = of.model_copy(update={"alpha": 0.025})
    assert judged(of, [reading(of, value, low=low, high=high)]).verdict is verdict


@pytest.mark.parametrize(("value", "verdict"), [(1e-5, S), (1.01e-5, F), (0.0, S)])
def test_an_exact_value_needs_no_interval(value: float, verdict: Verdict) -> None:
    of = metric(metric="skew", unit="probability", limit=1e-5, deterministic=True)
    assert judged(of, [reading(of, value)]).verdict is verdict


def test_a_share_is_bounded_by_its_counts() -> None:
    """The rule of three: no bad one in 2,995 proves less than one in a thousand at 5 %."""
    of = metric(metric="error_rate", unit="share", limit=0.001)
    for n, verdict in ((2994, H), (2995, S)):
        assert judged(of, [reading(of, 0.0, n=n, counts={"bad": 0, "n": n})]).verdict is verdict
    assert judged(of, [reading(of, 0.01, counts={"bad": 100, "n": 10_000})]).verdict is F


def test_a_share_of_good_ones_counts_the_bad_ones() -> None:
    of = metric(metric="availability", unit="share", rule="at_least", direction="higher", limit=0.99)
    assert judged(of, [reading(of, 1.0, counts={"bad": 0, "n": 300})]).verdict is S
    assert judged(of, [reading(of, 1.0, counts={"bad": 0, "n": 200})]).verdict is H
    assert judged(of, [reading(of, 0.9, counts={"bad": 100, "n": 1000})]).verdict is F


@pytest.mark.parametrize(("violations", "verdict"), [(0, S), (1, F), (10_000, F), (0.5, E), (10_001, E)])
def test_all_true_means_all(violations: float, verdict: Verdict) -> None:
    of = metric(rule="all_true", unit="checks")
    assert judged(of, [reading(of, violations)]).verdict is verdict


def test_what_is_counted_is_named_as_a_person_would() -> None:
    of = metric(metric="failed_tests", rule="all_true", unit="tests")
    said = [judged(of, [reading(of, value, n=27)]).metrics[0].reason for value in (0, 1, 2)]
    assert [one.partition(", none may")[0] for one in said] == [
        "failed tests: 0 of 27 tests count against it",
        "failed tests: 1 of 27 tests counts against it",
        "failed tests: 2 of 27 tests count against it",
    ]


@pytest.mark.parametrize(
    ("bad", "n", "alpha"), [(0, 20, 0.05), (3, 50, 0.025), (50, 50, 0.05), (7, 1000, 0.01)]
)
def test_exact_bounds_of_a_share_agree_with_scipy(bad: int, n: int, alpha: float) -> None:
    from scipy.stats import binomtest

    low, high = bounds.of_share(bad, n, alpha)
    expected = binomtest(bad, n).proportion_ci(1 - 2 * alpha, method="exact")
    assert low == pytest.approx(expected.low)
    assert high == pytest.approx(expected.high)


def test_bounds_of_a_mean_cover_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(4000, 12))
    below = [bounds.of_mean(row.mean(), row.std(ddof=1) / np.sqrt(12), 0.05, 12)[1] < 0 for row in samples]
    assert np.mean(below) == pytest.approx(0.05, abs=0.012)


def test_an_interval_is_stretched_to_the_alpha_that_is_asked() -> None:
    assert bounds.of_interval(1.0, 0.0, 3.0, 0.025) == pytest.approx((0.0, 3.0))
    low, high = bounds.of_interval(1.0, 0.0, 3.0, 0.0005)
    assert (1 - low, high - 1) == pytest.approx((1.679, 3.358), abs=0.01)


def test_a_quantile_is_bounded_by_order_statistics() -> None:
    rng = np.random.default_rng(2)
    truth = -np.log(0.1)
    found = [bounds.of_quantile(rng.exponential(size=200), 0.9, 0.05) for _ in range(2000)]
    low, high = np.array(found).T
    assert 0.02 < np.mean(low > truth) <= 0.05 + 0.01
    assert 0.02 < np.mean(high < truth) <= 0.05 + 0.01


def test_a_quantile_beyond_the_sample_has_no_bound() -> None:
    assert bounds.of_quantile(np.arange(100.0), 0.99, 0.05)[1] == float("inf")
    assert np.isfinite(bounds.of_quantile(np.arange(300.0), 0.99, 0.05)[1])
    with pytest.raises(Unusable, match="a quantile needs values"):
        bounds.of_quantile([], 0.5, 0.05)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.001, 0.4))
def test_bounds_of_a_share_hold_it_and_narrow_with_alpha(bad: int, more: int, alpha: float) -> None:
    n = bad + more
    low, high = bounds.of_share(bad, n, alpha)
    assert 0 <= low <= bad / n <= high <= 1
    tight_low, tight_high = bounds.of_share(bad, n, min(0.45, alpha * 1.1))
    assert tight_low >= low - 1e-12
    assert tight_high <= high + 1e-12


WIDTHS = st.just(0.0) | st.floats(1e-6, 5)
"""Not so narrow that moving an interval makes a point of it."""


@settings(max_examples=200, deadline=None)
@given(st.floats(-10, 10), WIDTHS, WIDTHS, st.floats(0, 3))
def test_worse_never_helps(value: float, below: float, above: float, worse: float) -> None:
    better = judged(AT_MOST, [reading(AT_MOST, value, low=value - below, high=value + above)]).verdict
    moved = value + worse
    worsened = judged(AT_MOST, [reading(AT_MOST, moved, low=moved - below, high=moved + above)]).verdict
    assert worsened >= better
