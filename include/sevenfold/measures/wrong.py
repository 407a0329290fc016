"""Wrong decisions of challenger and champion on live traffic, in parts of days whose labels are final.

Young rows are left out, all of them: the labels that come late are the bad ones, so an arm looks better the
younger its rows are. Parts of a day, because evening rows differ from morning rows and the share may have
changed in between.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold.data.predictions import values
from sevenfold.model.tasks import Task
from sevenfold.release.canary import key
from sevenfold.serving import log

PART = timedelta(hours=6)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cohort:
    """Rows of one part of a day that have a label: wrong and all of challenger (1) and champion (0)."""

    start: datetime
    end: datetime
    counts: dict[str, float]

    @property
    def key(self) -> str:
        """The key of its interval."""
        return key(self.start)


def wrong_decisions(
    logs: Path,
    model: str,
    task: Task,
    challenger: str,
    champion: str,
    *,
    since: datetime,
    final: datetime,
    skip: Collection[str | None] = (),
) -> list[Cohort]:
    """Cohorts in which the challenger answered labelled rows.

    Args:
        logs: the folder of all logs.
        model: whose predictions.
        task: when a decision is wrong.
        challenger: candidate id; only what it answered as challenger counts.
        champion: candidate id; only what it answered as champion, and after the challenger's first answer.
        since: wall time before which nothing counts: the promotion's begin.
        final: all labels of rows before this (the model's time) are known.
        skip: keys of the cohorts that were counted before; what comes after the last of them is new.
    """
    last = EPOCH + (final - EPOCH) // PART * PART
    counted = max((key for key in skip if key), default=None)
    after = datetime.fromisoformat(counted) + PART if counted else None
    mine = _answered(logs, model, challenger, "challenger", since, after, last)
    if not mine.num_rows:
        return []
    first, begun = pc.min(mine["time"]).as_py(), pc.min(mine["wall"]).as_py()
    start = EPOCH + (first - EPOCH) // PART * PART
    theirs = _answered(logs, model, champion, "champion", since if counted else begun, start, last)
    labels = log.feedback(logs, model, start=first)
    ours, rivals = _by_part(task, mine, labels), _by_part(task, theirs, labels)
    none = np.zeros(2)
    return [
        Cohort(
            EPOCH + part * PART,
            EPOCH + (part + 1) * PART,
            dict(zip(("e1", "n1", "e0", "n0"), (*bad_and_all, *rivals.get(part, none)), strict=True)),
        )
        for part, bad_and_all in sorted(ours.items())
    ]


def _answered(
    logs: Path,
    model: str,
    candidate: str,
    arm: str,
    since: datetime,
    start: datetime | None,
    end: datetime,
) -> pa.Table:
    found = log.predictions(logs, model, candidate, start, end)
    wall = pa.scalar(since, pa.timestamp("us", tz="UTC"))
    return found.filter(pc.and_(pc.equal(found["arm"], arm), pc.greater_equal(found["wall"], wall)))


def judged(task: Task, rows: pa.Table, labels: pa.Table) -> tuple[pa.Table, NDArray[np.bool_]]:
    """The rows whose label is known, the first answer of each, and which of them were decided wrongly."""
    place = pc.index_in(rows["id"], value_set=labels["id"].combine_chunks())
    known = pc.and_(pc.is_valid(place), pc.is_valid(rows["id"])).to_numpy(zero_copy_only=False)
    rows = rows.filter(pa.array(known))
    ids = rows["id"].to_numpy(zero_copy_only=False)
    _, first = np.unique(ids, return_index=True)
    label = labels["label"].take(place.filter(pa.array(known))).to_numpy()
    wrong = task.wrong(label, values(rows["prediction"]))
    return rows.take(first), np.asarray(wrong[first], dtype=np.bool_)


def parts(rows: pa.Table) -> NDArray[np.int64]:
    """[n] number of the part of a day since 1970."""
    micros = rows["time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return np.asarray(micros // (PART // timedelta(microseconds=1)), dtype=np.int64)


def _by_part(task: Task, rows: pa.Table, labels: pa.Table) -> dict[int, NDArray[np.float64]]:
    """Part -> (wrong, all) of the rows whose label is known."""
    rows, wrong = judged(task, rows, labels)
    part = parts(rows)
    return {
        int(one): np.array([wrong[part == one].sum(), (part == one).sum()], float) for one in np.unique(part)
    }
