"""The toy's tables with something wrong in them, as entry points of its model.yaml."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tests import toy

Tables = tuple[pa.Table, pa.Table]
LATE = datetime(2020, 2, 19, tzinfo=UTC)
"""Before the last twelve days, which training does not see."""


def height_as_text(progress: Callable[[str], None]) -> Tables:
    """A column of the wrong type."""
    rows, labels = toy.build(progress)
    return _with(rows, "height", rows["height"].cast(pa.string())), labels


def a_day_less(progress: Callable[[str], None]) -> Tables:
    """The source has a hole."""
    rows, labels = toy.build(progress)
    day = pa.scalar(datetime(2020, 1, 20, tzinfo=UTC).date())
    rows = rows.filter(pc.not_equal(rows["day"], day))
    return rows, labels.filter(pc.is_in(labels["id"], value_set=rows["id"].combine_chunks()))


def all_heads(progress: Callable[[str], None]) -> Tables:
    """Labels that are all equal."""
    rows, labels = toy.build(progress)
    return rows, _with(labels, "label", pa.array(np.ones(labels.num_rows, np.int8)))


def a_third_side(progress: Callable[[str], None]) -> Tables:
    """A label of a class that the task does not have, in the days that training learns from."""
    return _landed_on_edge(progress, datetime(2020, 1, 10, tzinfo=UTC))


def a_third_side_later(progress: Callable[[str], None]) -> Tables:
    """The same in the days that only tests see."""
    return _landed_on_edge(progress, LATE)


def a_new_colour(progress: Callable[[str], None]) -> Tables:
    """A category that training never saw, in the days that only tests see."""
    rows, labels = toy.build(progress)
    late = pc.greater(rows["time"], pa.scalar(LATE, rows["time"].type))
    return _with(rows, "colour", pc.if_else(late, "mauve", rows["colour"])), labels


def _landed_on_edge(progress: Callable[[str], None], since: datetime) -> Tables:
    rows, labels = toy.build(progress)
    changed = np.asarray(labels["label"]).copy()
    times = rows["time"].take(pc.index_in(labels["id"], value_set=rows["id"].combine_chunks()))
    changed[np.asarray(pc.greater(times, pa.scalar(since, times.type)))[:]] = 2
    return rows, _with(labels, "label", pa.array(changed))


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
