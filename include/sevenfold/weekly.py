"""What a week of joined rows says about a model: outcomes against what it expected, loss, order, speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold import evaluation
from sevenfold.evaluation import Interval
from sevenfold.weeks import Week, within

Floats = NDArray[np.float64]
Days = NDArray[np.int32]


@dataclass(frozen=True)
class WeekReading:
    """One week of one candidate. Losses are nats a row; intervals are over whole days, at 95 %."""

    week: Week
    candidate: str
    rows: int
    labelled: int
    positive_rate: Interval
    over_expected: Interval
    """Positive labels over the sum of the probabilities: 1 if the model is right on average."""
    log_loss: Interval
    expected_log_loss: float
    """The log loss that the model would have if its probabilities were right."""
    excess_log_loss: Interval
    """Log loss beyond that: what wrong probabilities cost."""
    auc: Interval
    """NaN where all labels are the same."""
    p50_ms: float
    """Of the server's own time per request."""
    p99_ms: float


def by_week(rows: pa.Table, weeks: list[Week], fewest: int) -> list[WeekReading]:
    """One reading a week and candidate with at least `fewest` labelled rows, in the order of time.

    `rows` are joined rows (see sevenfold.joined) with the columns time, candidate, label, probability, row
    and service_us.
    """
    found = []
    for week in weeks:
        inside = within(rows, week)
        for candidate in sorted(pc.unique(inside["candidate"]).to_pylist()):
            mine = inside.filter(pc.equal(inside["candidate"], candidate))
            if mine.num_rows - mine["label"].null_count >= fewest:
                found.append(read(mine, week, candidate))
    return found


def read(rows: pa.Table, week: Week, candidate: str) -> WeekReading:
    """The reading of `rows`, at least one of which has a label."""
    label, probability, day = columns(rows)
    losses, expected = evaluation.log_losses(label, probability), entropies(probability)
    milliseconds = rows.filter(pc.equal(rows["row"], 0))["service_us"].to_numpy() / 1000  # once a request
    return WeekReading(
        week=week,
        candidate=candidate,
        rows=rows.num_rows,
        labelled=len(label),
        positive_rate=evaluation.mean(label, day),
        over_expected=evaluation.ratio(label, probability, day),
        log_loss=evaluation.mean(losses, day),
        expected_log_loss=float(expected.mean()),
        excess_log_loss=evaluation.mean(losses - expected, day),
        auc=evaluation.auc(label, probability, day),
        p50_ms=_quantile(milliseconds, 0.5),
        p99_ms=_quantile(milliseconds, 0.99),
    )


def columns(rows: pa.Table) -> tuple[Floats, Floats, Days]:
    """Label, probability and day (UTC, as a number) of the rows that have a label."""
    labelled = rows.filter(pc.is_valid(rows["label"]))
    label, probability = (
        np.asarray(labelled[name].to_numpy(), np.float64) for name in ("label", "probability")
    )
    return label, probability, labelled["time"].cast(pa.date32()).cast(pa.int32()).to_numpy()


def entropies(probability: Floats) -> Floats:
    """The log loss to be expected of each row if its probability is right, in nats."""
    yes, no = (evaluation.log_losses(np.full(len(probability), label), probability) for label in (1.0, 0.0))
    return np.asarray(probability * yes + (1 - probability) * no, np.float64)


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
