"""auc: ranking quality against the champion (or the anchor) on the same rows, by DeLong's paired test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sevenfold.rules import bounds, non_inferior
from sevenfold.rules.rule import Case, Outcome, Rule, Unusable, count

if TYPE_CHECKING:
    from sevenfold.policy import Metric

Floats = NDArray[np.float64]


def judge(case: Case) -> Outcome:
    """Passes when the AUC is proven less than the margin below the baseline's.

    Fails when it is proven below it and not within the margin.

    Needs: counts {auc, baseline_auc, se, clusters?} as `delong` gives them.
    Assumes: both scored the same rows; rows, or the clusters given to `delong`, are independent.
    """
    reading = case.reading
    auc, baseline, se = (count(reading, name) for name in ("auc", "baseline_auc", "se"))
    if not (0 <= auc <= 1 and 0 <= baseline <= 1):
        raise Unusable(f"an AUC lies between 0 and 1, and these are {auc:g} and {baseline:g}")
    clusters = (reading.counts or {}).get("clusters")
    passing = bounds.of_mean(auc - baseline, se, case.alpha_pass, clusters)
    failing = bounds.of_mean(auc - baseline, se, case.alpha_fail, clusters)
    return non_inferior.compare(case, auc - baseline, passing, failing)


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    return non_inferior.in_words(metric)


def delong(
    labels: ArrayLike, scores: ArrayLike, baseline_scores: ArrayLike, clusters: ArrayLike | None = None
) -> dict[str, float]:
    """Counts {auc, baseline_auc, se, clusters?} for a measurement; all arguments are [n].

    `se` is that of the difference of the two AUCs. With `clusters` (the day of each row) rows of one cluster
    may hang together. Sources: DeLong et al. 1988, by ranks as Sun and Xu 2014, O(n log n); clusters as
    Obuchowski 1997.
    """
    positive = np.asarray(labels).astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        raise Unusable(f"{m} positive and {n} negative rows give no AUC")
    auc, placed = _placements(positive, np.asarray(scores, dtype=np.float64))
    baseline_auc, baseline_placed = _placements(positive, np.asarray(baseline_scores, dtype=np.float64))
    difference = placed - baseline_placed  # [n] how much each row adds to the difference of AUCs
    centre = np.where(positive, difference[positive].mean(), difference[~positive].mean())
    influence = (difference - centre) / np.where(positive, m, n)
    counts = {"auc": auc, "baseline_auc": baseline_auc}
    if clusters is None:
        variance = sum(_variance_of_sum(influence[side]) for side in (positive, ~positive))
        return counts | {"se": float(np.sqrt(variance))}
    names, member = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        raise Unusable(f"{len(names)} cluster gives no standard error")
    variance = _variance_of_sum(np.bincount(member, weights=influence).astype(np.float64))
    return counts | {"se": float(np.sqrt(variance)), "clusters": float(len(names))}


def _variance_of_sum(parts: Floats) -> float:
    return float((parts**2).sum() * len(parts) / (len(parts) - 1))


def _placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """AUC, and for each row [n] the share of the other class that it is on the right side of."""
    from scipy.stats import rankdata

    if not np.isfinite(scores).all():
        raise Unusable("a score is not a finite number")
    m, n = int(positive.sum()), int((~positive).sum())
    together = rankdata(scores)
    placed = np.empty(len(scores))
    placed[positive] = (together[positive] - rankdata(scores[positive])) / n
    placed[~positive] = 1 - (together[~positive] - rankdata(scores[~positive])) / m
    return float(placed[positive].mean()), placed


RULE = Rule("auc", judge, in_words, needs=frozenset({"baseline", "margin"}), takes=frozenset({"max_uses"}))
