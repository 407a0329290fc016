"""Two candidates on the same requests: what the shadow answered beside what the caller got.

The gateway sends a copy of each request to the shadow under the same x-request-id, so the two lines of the
prediction log belong together by request id and row. An answered request that has no line of the shadow
was lost on the shadow's side: its caller noticed nothing, the gate does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold.data.predictions import paired, values
from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Interval
from sevenfold.model.tasks import Task


@dataclass(frozen=True)
class Pairs:
    """Rows that both answered, one after the other in time."""

    task: Task
    id: pa.ChunkedArray  # [n] text
    time: pa.ChunkedArray  # [n] when it happened
    champion: NDArray[np.float64]  # [n] or [n, K], what the caller got
    shadow: NDArray[np.float64]  # [n] or [n, K], what was thrown away
    champion_us: NDArray[np.float64]  # [requests] service time of each request, in the same order
    shadow_us: NDArray[np.float64]  # [requests]
    requests: int
    lost: int
    """Requests that the champion answered and the shadow did not."""

    @property
    def days(self) -> NDArray[Any]:
        """[n] UTC date of each row."""
        return np.asarray(self.time.cast(pa.date32()).to_numpy())

    @property
    def rows(self) -> int:
        """How many rows both answered."""
        return len(self.champion)

    @property
    def disagreements(self) -> int:
        """Rows that the two decide differently."""
        return int(self.task.differ(self.champion, self.shadow).sum())

    @property
    def difference(self) -> Interval:
        """Mean distance of the two predictions, with its interval by day."""
        return evaluation.mean(self.task.distance(self.champion, self.shadow), self.days)

    def before(self, moment: datetime) -> Pairs:
        """The rows of earlier than `moment`; counts of requests stay as they are."""
        early = pc.less(self.time, pa.scalar(moment, self.time.type))
        mask = early.to_numpy(zero_copy_only=False)
        return replace(
            self,
            id=self.id.filter(early),
            time=self.time.filter(early),
            champion=self.champion[mask],
            shadow=self.shadow[mask],
        )

    def slower_than(self, milliseconds: float) -> tuple[int, int]:
        """Requests that took the shadow longer than that, and the champion."""
        limit = milliseconds * 1e3
        return int((self.shadow_us > limit).sum()), int((self.champion_us > limit).sum())


def pair(task: Task, champion: pa.Table, shadow: pa.Table) -> Pairs:
    """Joins what the champion answered while it was mirrored with what the shadow answered.

    Both are tables of sevenfold.serving.log. Read the shadow's after its last copy must have come.
    """
    ours, theirs = paired(champion, shadow)
    asked = pc.unique(champion["request"])
    answered = pc.unique(ours["request"])
    first = pc.equal(ours["row"], 0)
    return Pairs(
        task=task,
        id=ours["id"],
        time=ours["time"],
        champion=values(ours["prediction"]),
        shadow=values(theirs["prediction"]),
        champion_us=values(ours["service_us"].filter(first)),
        shadow_us=values(theirs["service_us"].filter(first)),
        requests=len(asked),
        lost=len(asked) - len(answered),
    )


@dataclass(frozen=True)
class Losses:
    """Loss on the rows whose label is known; `difference` is shadow minus champion, by day.

    The calibrations are what was observed over what was expected: 1 is right.
    """

    champion: Interval
    shadow: Interval
    difference: Interval
    champion_calibration: Interval
    shadow_calibration: Interval


def losses(pairs: Pairs, labels: pa.Table) -> Losses | None:
    """Later loss of both on the same rows (labels: id, label); None if no label is known."""
    where = pc.index_in(pairs.id, value_set=labels["id"].combine_chunks())
    known = pc.is_valid(where).to_numpy(zero_copy_only=False)
    if not known.any():
        return None
    label = values(labels["label"].take(where.drop_null()))
    ours = pairs.task.losses(label, pairs.champion[known])
    theirs = pairs.task.losses(label, pairs.shadow[known])
    days = pairs.days[known]
    return Losses(
        champion=evaluation.mean(ours, days),
        shadow=evaluation.mean(theirs, days),
        difference=evaluation.mean(theirs - ours, days),
        champion_calibration=_calibration(pairs.task, label, pairs.champion[known], days),
        shadow_calibration=_calibration(pairs.task, label, pairs.shadow[known], days),
    )


def _calibration(task: Task, label: Any, prediction: Any, days: Any) -> Interval:
    return evaluation.ratio(task.observed(label, prediction), task.expected(prediction), days)
