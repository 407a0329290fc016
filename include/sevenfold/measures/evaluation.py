"""How good probabilities are, with intervals that know that the rows of a day are not independent.

A storm delays all flights of a day, so rows come in clusters. Every standard error here sums the influence of
rows by day before it is squared (Liang and Zeger, 1986): intervals that count rows as independent are four to
six times too narrow on the reference data. Limits are Student's, with one degree of freedom a day less one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1, so that one row cannot make a mean infinite."""


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` rows in `clusters` days, its standard error and limits: NaN from a single day."""

    value: float
    low: float
    high: float
    se: float
    n: int
    clusters: int

    @property
    def limits(self) -> dict[str, float | None]:
        """Low and high as a measurement takes them: None where there is no number."""
        return {"low": _or_none(self.low), "high": _or_none(self.high)}

    @property
    def difference_counts(self) -> dict[str, float] | None:
        """What a gate on a paired difference needs; None if one day or none gives no standard error."""
        if not np.isfinite(self.se):
            return None
        return {"mean_diff": self.value, "se": self.se, "clusters": float(self.clusters)}


def log_losses(label: Floats, probability: Floats) -> NDArray[np.float64]:
    """Log loss of each row, in nats."""
    p = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    return -np.where(np.asarray(label) > 0.5, np.log(p), np.log1p(-p))


def mean(values: Floats, days: NDArray[Any], confidence: float = 0.95) -> Interval:
    """Mean of a value a row, for example of log losses or of a paired difference of them."""
    values = np.asarray(values, np.float64)
    centre = float(values.mean()) if len(values) else float("nan")
    return _clustered(centre, (values - centre) / max(len(values), 1), days, confidence)


def ratio(above: Floats, below: Floats, days: NDArray[Any], confidence: float = 0.95) -> Interval:
    """Sum of `above` over sum of `below`: of labels over probabilities it is observed over expected."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    total = below.sum()
    if total <= 0:
        return _clustered(float("nan"), above, days, confidence)
    centre = float(above.sum() / total)
    return _clustered(centre, (above - centre * below) / total, days, confidence)


def auc(label: Floats, score: Floats, days: NDArray[Any], confidence: float = 0.95) -> Interval:
    """Area under the ROC curve, its error by day (Obuchowski, 1997); NaN if all labels are equal."""
    area, influence = _auc_influence(np.asarray(label), np.asarray(score))
    return _clustered(area, influence, days, confidence)


def auc_difference(
    label: Floats, score: Floats, baseline: Floats, days: NDArray[Any], confidence: float = 0.95
) -> Interval:
    """AUC of `score` less AUC of `baseline` on the same rows (DeLong et al., 1988, by day)."""
    area, influence = _auc_influence(np.asarray(label), np.asarray(score))
    other, others = _auc_influence(np.asarray(label), np.asarray(baseline))
    return _clustered(area - other, influence - others, days, confidence)


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar probability: their mean probability, and their observed rate with its limits."""

    predicted: float
    observed: Interval


def calibration_curve(
    label: Floats, probability: Floats, days: NDArray[Any], bins: int = 10
) -> list[CalibrationBin]:
    """Observed rate over predicted probability in bins of equal numbers of rows."""
    order = np.argsort(probability, kind="stable")
    return [
        CalibrationBin(float(np.mean(probability[rows])), mean(label[rows], days[rows]))
        for rows in np.array_split(order, bins)
        if len(rows)
    ]


def calibration_error(curve: list[CalibrationBin]) -> float:
    """Expected calibration error: mean distance of observed rate and probability, weighted by rows."""
    rows = sum(bin.observed.n for bin in curve)
    return sum(abs(bin.observed.value - bin.predicted) * bin.observed.n for bin in curve) / max(rows, 1)


def _auc_influence(label: NDArray[Any], score: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
    """The area, and how far each row moves it: the share of the other class that it beats, less the area."""
    score = np.asarray(score, np.float64)
    positive = label > 0.5
    ones, zeros = np.sort(score[positive]), np.sort(score[~positive])
    influence = np.zeros(len(score))
    if not len(ones) or not len(zeros):
        return float("nan"), influence
    beaten = (_below(zeros, score[positive]) / len(zeros)).astype(np.float64)
    area = float(beaten.mean())
    lost_to = 1 - _below(ones, score[~positive]) / len(ones)
    influence[positive] = (beaten - area) / len(ones)
    influence[~positive] = (lost_to - area) / len(zeros)
    return area, influence


def _below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `ordered` lie below each value, ties counted half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


def _clustered(value: float, influence: Floats, days: NDArray[Any], confidence: float) -> Interval:
    distinct, which = np.unique(np.asarray(days), return_inverse=True)
    clusters, n = len(distinct), len(influence)
    if clusters < 2 or not np.isfinite(value):
        nan = float("nan")
        return Interval(value, nan, nan, nan, n, clusters)
    from scipy.special import stdtrit

    by_day = np.bincount(which, weights=influence, minlength=clusters)
    se = float(np.sqrt(clusters / (clusters - 1) * np.square(by_day).sum()))
    reach = float(stdtrit(clusters - 1, (1 + confidence) / 2)) * se
    return Interval(value, value - reach, value + reach, se, n, clusters)


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
