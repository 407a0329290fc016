"""What a week of joined rows says about a model: outcomes against what it expected, loss, order, speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold.data.predictions import values
from sevenfold.data.weeks import Week, within
from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Interval
from sevenfold.model.tasks import Task

Floats = NDArray[np.float64]
Days = NDArray[np.int32]


@dataclass(frozen=True)
class WeekReading:
    """One week of one candidate. Losses are nats a row; intervals are over whole days, at 95 %."""

    week: Week
    candidate: str
    rows: int
    labelled: int
    observed: Interval
    """Mean of what the task watches: its name is the task's `outcome_metric`."""
    over_expected: Interval
    """The same over what was expected: 1 if the model is right on average."""
    log_loss: Interval
    expected_log_loss: float
    """The log loss that the model would have if its predictions were right."""
    excess_log_loss: Interval
    """Log loss beyond that: what wrong predictions cost."""
    second: Interval
    """The task's second metric; NaN where the labels say nothing about it."""
    p50_ms: float
    """Of the server's own time per request."""
    p99_ms: float


def by_week(task: Task, rows: pa.Table, weeks: list[Week], fewest: int) -> list[WeekReading]:
    """One reading a week and candidate with at least `fewest` labelled rows, in the order of time.

    `rows` are joined rows (see sevenfold.monitoring.joined) with the columns time, candidate, label,
    prediction, row and service_us.
    """
    found = []
    for week in weeks:
        inside = within(rows, week)
        for candidate in sorted(pc.unique(inside["candidate"]).to_pylist()):
            mine = inside.filter(pc.equal(inside["candidate"], candidate))
            if mine.num_rows - mine["label"].null_count >= fewest:
                found.append(read(task, mine, week, candidate))
    return found


def read(task: Task, rows: pa.Table, week: Week, candidate: str) -> WeekReading:
    """The reading of `rows`, at least one of which has a label."""
    label, prediction, day = columns(rows)
    losses, expected = task.losses(label, prediction), task.expected_losses(prediction)
    milliseconds = rows.filter(pc.equal(rows["row"], 0))["service_us"].to_numpy() / 1000  # once a request
    return WeekReading(
        week=week,
        candidate=candidate,
        rows=rows.num_rows,
        labelled=len(label),
        observed=evaluation.mean(task.observed(label, prediction), day),
        over_expected=task.observed_over_expected(label, prediction, day),
        log_loss=evaluation.mean(losses, day),
        expected_log_loss=float(expected.mean()),
        excess_log_loss=evaluation.mean(losses - expected, day),
        second=task.second_metric(label, prediction, day),
        p50_ms=_quantile(milliseconds, 0.5),
        p99_ms=_quantile(milliseconds, 0.99),
    )


def columns(rows: pa.Table) -> tuple[Floats, Floats, Days]:
    """Label, prediction and day (UTC, as a number) of the rows that have a label."""
    labelled = rows.filter(pc.is_valid(rows["label"]))
    label, prediction = (values(labelled[name]) for name in ("label", "prediction"))
    return label, prediction, labelled["time"].cast(pa.date32()).cast(pa.int32()).to_numpy()


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
