"""Bounds: how far the truth may lie from what was measured.

Convention of measurements: `low` and `high` are the ends of a two-sided 95 % interval. A rule asks for a
one-sided bound at its own alpha; where only the interval is given it is widened (or narrowed) on each side as
for a normal distribution, where counts are given the bound is computed from them.

scipy takes longer to import than a DAG to parse, so only the functions that compute with it import it.
"""

from __future__ import annotations

from math import isnan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.rules.rule import Unusable, count

Floats = NDArray[np.float64]

MEASURED_TAIL = 0.025
"""What a measurement's low and high each leave outside."""


def of_share(bad: float, n: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a share, exact: each holds with probability 1 - alpha at least.

    Source: Clopper and Pearson 1934. Assumes independent trials.
    """
    from scipy.special import betaincinv

    low = 0.0 if bad <= 0 else float(betaincinv(bad, n - bad + 1, alpha))
    high = 1.0 if bad >= n else float(betaincinv(bad + 1, n - bad, 1 - alpha))
    return low, high


def of_mean(mean: float, se: float, alpha: float, clusters: float | None = None) -> tuple[float, float]:
    """One-sided bounds of a mean from its standard error; Student's t if clusters are given."""
    if se < 0 or (se == 0 and mean != 0):
        raise Unusable(f"the standard error of {mean:g} is {se:g}")
    if clusters is not None and clusters < 2:
        raise Unusable(f"{clusters:g} cluster gives no standard error")
    from scipy.special import ndtri, stdtrit

    reach = -float(ndtri(alpha) if clusters is None else stdtrit(clusters - 1, alpha)) * se
    return mean - reach, mean + reach


def of_interval(value: float, low: float, high: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds at `alpha` from a two-sided 95 % interval, each side stretched as for a normal."""
    if not low <= value <= high:
        raise Unusable(f"the interval {low:g} to {high:g} does not contain {value:g}")
    if low == high:
        raise Unusable(f"the interval around {value:g} has no width, so it is a point that decides nothing")
    from scipy.special import ndtri

    stretch = float(ndtri(alpha) / ndtri(MEASURED_TAIL))
    return value - (value - low) * stretch, value + (high - value) * stretch


def of_quantile(values: ArrayLike, quantile: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a quantile by order statistics, without any assumption on the distribution.

    Source: David and Nagaraja, Order Statistics, 7.1. Assumes independent values: the requests of one load
    test are not (research: such an interval covered the true p99 22 % of the time), so use one value per run
    or per separate window. Infinite where the sample is too small for a bound.
    """
    ordered: Floats = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0 or np.isnan(ordered).any():
        raise Unusable("a quantile needs values, all of them numbers")
    from scipy.special import bdtr

    # B values lie below the quantile, B binomial: P(B < r) <= alpha below, P(B >= r) <= alpha above.
    cumulative = np.asarray(bdtr(np.arange(n), n, quantile))
    low_rank = int(np.searchsorted(cumulative, alpha, side="right"))
    high_rank = int(np.searchsorted(cumulative, 1 - alpha, side="left")) + 1
    low = float(ordered[low_rank - 1]) if low_rank >= 1 else float("-inf")
    high = float(ordered[high_rank - 1]) if high_rank <= n else float("inf")
    return low, high


def of_reading(reading: Measurement, alpha: float, share_of_good: bool = False) -> tuple[float, float]:
    """One-sided bounds of the value: from counts {bad, n} or {se} if there, else from low and high."""
    value = reading.value
    if value is None or isnan(value):
        raise Unusable("there is no value")
    counts = reading.counts or {}
    if "bad" in counts and "n" in counts:
        good_or_bad = counts["n"] - counts["bad"] if share_of_good else counts["bad"]
        return of_share(good_or_bad, counts["n"], alpha)
    if "se" in counts:
        return of_mean(value, counts["se"], alpha, counts.get("clusters"))
    if reading.low is None or reading.high is None:
        raise Unusable("the reading has no interval, and a point alone decides nothing")
    return of_interval(value, reading.low, reading.high, alpha)


def of_difference(reading: Measurement, alpha: float) -> tuple[float, float, float]:
    """(difference, low, high): candidate minus baseline with one-sided bounds at `alpha`.

    From counts {mean_diff, se, clusters?}, else from low and high, which are then the interval of the
    difference; `value` is the candidate's and `baseline_value` the baseline's, or `value` the difference.
    """
    if reading.counts is not None and "mean_diff" in reading.counts:
        difference = reading.counts["mean_diff"]
        se = count(reading, "se")
        return difference, *of_mean(difference, se, alpha, reading.counts.get("clusters"))
    if reading.value is None:
        raise Unusable("there is no value")
    if reading.low is None or reading.high is None:
        raise Unusable("the reading has no interval of the difference")
    difference = reading.value
    if reading.baseline_value is not None and not reading.low <= difference <= reading.high:
        difference = reading.value - reading.baseline_value
    return difference, *of_interval(difference, reading.low, reading.high, alpha)
