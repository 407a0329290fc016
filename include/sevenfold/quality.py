"""Measures how good probabilities are, alone and paired with the champion's on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold import evaluation
from sevenfold.candidate import Candidate
from sevenfold.evaluation import Floats, Interval
from sevenfold.windows import Window

if TYPE_CHECKING:
    from sevenfold.activity import Activity


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one window: label [n] of 0 and 1, and the day [n] that each belongs to."""

    label: Floats
    days: NDArray[Any]
    window: Window


def measure_alone(activity: Activity, rows: Rows, probability: Floats) -> dict[str, Interval]:
    """Measures and returns log_loss, auc and observed_over_expected."""
    found = {
        "log_loss": evaluation.mean(evaluation.log_losses(rows.label, probability), rows.days),
        "auc": evaluation.auc(rows.label, probability, rows.days),
        "observed_over_expected": evaluation.ratio(rows.label, probability, rows.days),
    }
    units = {"log_loss": "nats", "auc": "", "observed_over_expected": "ratio"}
    for metric, interval in found.items():
        measure(activity, metric, interval, units[metric], rows.window)
    return found


def measure_against_champion(
    activity: Activity, rows: Rows, probability: Floats, theirs: Floats, champion: Candidate
) -> dict[str, Interval]:
    """Measures log_loss and auc with the champion's beside them; returns the paired differences.

    A difference is the candidate's value less the champion's on the same rows; its standard error, by day,
    goes into the counts.
    """
    loss, champions_loss = (evaluation.log_losses(rows.label, p) for p in (probability, theirs))
    label, days = rows.label, rows.days
    compared = {
        "log_loss": (
            "nats",
            evaluation.mean(loss, days),
            evaluation.mean(champions_loss, days),
            evaluation.mean(loss - champions_loss, days),
        ),
        "auc": (
            "",
            evaluation.auc(label, probability, days),
            evaluation.auc(label, theirs, days),
            evaluation.auc_difference(label, probability, theirs, days),
        ),
    }
    for metric, (unit, mine, baseline, difference) in compared.items():
        activity.measure(
            metric,
            number(mine.value),
            unit=unit,
            n=mine.n,
            baseline="champion",
            baseline_candidate=champion.id,
            baseline_value=number(baseline.value),
            window=rows.window,
            counts=difference.difference_counts,
        )
        activity.progress(
            f"{metric}: {difference.value:+.4f} against the champion "
            f"(95 % {difference.low:+.4f} to {difference.high:+.4f})"
        )
    return {metric: difference for metric, (_, _, _, difference) in compared.items()}


def measure(activity: Activity, metric: str, found: Interval, unit: str, window: Window) -> None:
    """Measures one estimate with its limits."""
    low, high = found.limits["low"], found.limits["high"]
    activity.measure(metric, number(found.value), unit=unit, n=found.n, low=low, high=high, window=window)


def number(value: float) -> float | None:
    """None for what is no number, such as the AUC of rows whose labels are all equal."""
    return value if np.isfinite(value) else None
