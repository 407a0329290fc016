"""Predictions as a column of a table: one number a row, or a list of K numbers a row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa  # a server writes predictions and never reads them: it does not pay for this


def column(prediction: NDArray[Any]) -> pa.Array:
    """The column that holds predictions [n] or [n, K], as float32."""
    import pyarrow as pa

    prediction = np.asarray(prediction, np.float32)
    if prediction.ndim == 1:
        return pa.array(prediction)
    return pa.FixedSizeListArray.from_arrays(pa.array(prediction.ravel()), prediction.shape[1])


def values(column: Any) -> NDArray[np.float64]:
    """The predictions [n] or [n, K] that a column holds."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_fixed_size_list(whole.type):
        flat = np.asarray(whole.flatten().to_numpy(zero_copy_only=False), np.float64)
        return flat.reshape(len(whole), whole.type.list_size)
    return np.asarray(whole.to_numpy(zero_copy_only=False), np.float64)


def paired(ours: pa.Table, theirs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of both tables that answer the same row of the same request, side by side in order of time."""
    import pyarrow as pa

    keys = ["request", "row"]
    here = ours.select([*keys, "time"]).append_column("ours", pa.array(range(ours.num_rows), pa.int64()))
    there = theirs.select(keys).append_column("theirs", pa.array(range(theirs.num_rows), pa.int64()))
    both = here.join(there, keys=keys, join_type="inner").sort_by(
        [(name, "ascending") for name in ("time", *keys)]
    )
    return ours.take(both["ours"]), theirs.take(both["theirs"])


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of a log below one another; a column that one of them lacks is null there.

    Where one has a number and another a text, the feature was named as personal in between: its hashes are
    read, and what was kept before is not.
    """
    import pyarrow as pa

    kinds: dict[str, set[pa.DataType]] = {}
    for field in chain.from_iterable(table.schema for table in tables):
        kinds.setdefault(field.name, set()).add(field.type)
    mixed = [name for name, found in kinds.items() if len(found) > 1 and pa.string() in found]
    read = []
    for table in tables:
        for name in mixed:
            if name in table.column_names and table.schema.field(name).type != pa.string():
                place = table.column_names.index(name)
                table = table.set_column(place, name, pa.nulls(table.num_rows, pa.string()))
        read.append(table)
    return pa.concat_tables(read, promote_options="default")


def apart(served: Any, expected: NDArray[Any]) -> float:
    """The largest difference between two answers to the same rows, of numbers beyond 1 as a share of them.

    Float32 keeps seven digits, whether they say 0.3 or 1013.
    """
    gap = np.abs(np.asarray(served, np.float64) - expected) / np.maximum(1, np.abs(expected))
    return float(gap.max(initial=0.0))
