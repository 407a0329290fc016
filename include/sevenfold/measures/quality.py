"""Measures how good predictions are, alone and paired with a baseline's on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sevenfold.candidates.candidate import Candidate
from sevenfold.data.windows import Window
from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Floats, Interval

if TYPE_CHECKING:
    from sevenfold.activity import Activity


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one window: label [n], and the day [n] that each belongs to."""

    label: Floats
    days: NDArray[Any]
    window: Window

    @classmethod
    def of(cls, labelled: Any, window: Window) -> Rows:
        """What `Snapshot.labelled` gave."""
        return cls(np.asarray(labelled["label"], np.float64), np.asarray(labelled["day"]), window)

    def __len__(self) -> int:
        return len(self.label)


def measure_alone(activity: Activity, rows: Rows, prediction: Floats) -> dict[str, Interval]:
    """Measures and returns the task's headline metrics."""
    task = activity.spec.task
    found = task.headline(rows.label, prediction, rows.days)
    for metric, interval in found.items():
        measure(activity, metric, interval, task.headline_units[metric], rows.window)
    return found


def measure_against(
    activity: Activity,
    rows: Rows,
    prediction: Floats,
    theirs: Floats,
    other: Candidate,
    baseline: Literal["champion", "anchor"] = "champion",
    uses: int | None = None,
) -> dict[str, Interval]:
    """Measures log loss and second metric with the baseline's beside them; returns the paired differences.

    A difference is the candidate's value less the baseline's on the same rows; its standard error, by day,
    goes into the counts, and how often these rows were used before, where `uses` is given.
    """
    task, label, days = activity.spec.task, rows.label, rows.days
    mine, others = (task.headline(label, one, days) for one in (prediction, theirs))
    differences = {
        "log_loss": evaluation.mean(task.losses(label, prediction) - task.losses(label, theirs), days),
        task.second: task.second_difference(label, prediction, theirs, days),
    }
    for metric, difference in differences.items():
        counts = difference.difference_counts
        activity.measure(
            metric,
            number(mine[metric].value),
            unit=task.headline_units[metric],
            n=mine[metric].n,
            baseline=baseline,
            baseline_candidate=other.id,
            baseline_value=number(others[metric].value),
            window=rows.window,
            counts=counts if uses is None else (counts or {}) | {"uses": float(uses)},
        )
        activity.progress(
            f"{metric}: {difference.value:+.4f} against the {baseline} "
            f"(95 % {difference.low:+.4f} to {difference.high:+.4f})"
        )
    return differences


def measure(activity: Activity, metric: str, found: Interval, unit: str, window: Window) -> None:
    """Measures one estimate with its limits."""
    low, high = found.limits["low"], found.limits["high"]
    activity.measure(metric, number(found.value), unit=unit, n=found.n, low=low, high=high, window=window)


def number(value: float) -> float | None:
    """None for what is no number, such as the AUC of rows whose labels are all equal."""
    return value if np.isfinite(value) else None
