"""Requests made of rows, and feedback made of labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 64
MAX_LABELS = 2000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Batch:
    """One request: the times of its first and last row, how many rows, who asks, and the body."""

    start: datetime
    time: datetime
    rows: int
    entity: str
    body: bytes


def moments(
    rows: pa.Table, numeric: tuple[str, ...], categorical: tuple[str, ...], slot: timedelta
) -> Iterator[list[Batch]]:
    """Rows that fall into the same slot of time, as requests of at most `MAX_ROWS`, in order of time."""
    rows = rows.sort_by([("time", "ascending"), ("id", "ascending")])
    micros = rows["time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    numbers = _numbers(rows, numeric)
    texts = list(zip(*(rows[name].to_pylist() for name in categorical), strict=True))
    ids = rows["id"].to_pylist()

    def batch(first: int, last: int) -> Batch:
        start, time = (EPOCH + timedelta(microseconds=int(micros[row])) for row in (first, last - 1))
        body = _request(numbers[first:last], texts[first:last], len(categorical), ids[first:last], time)
        return Batch(start, time, last - first, ids[first], body)

    for start, end in _runs(micros // (slot // timedelta(microseconds=1))):
        yield [batch(first, min(first + MAX_ROWS, end)) for first in range(start, end, MAX_ROWS)]


def feedback(labels: pa.Table) -> Iterator[tuple[int, bytes]]:
    """Feedback bodies of at most `MAX_LABELS` labels, and how many each holds."""
    known = [
        {"id": row["id"], "label": row["label"], "known_at": row["known_at"]} for row in labels.to_pylist()
    ]
    for start in range(0, len(known), MAX_LABELS):
        part = known[start : start + MAX_LABELS]
        yield len(part), orjson.dumps({"labels": part})


def _numbers(rows: pa.Table, names: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    columns = [rows[name].to_numpy().astype(np.float32) for name in names]
    return (
        np.ascontiguousarray(np.stack(columns, axis=1)) if columns else np.empty((len(rows), 0), np.float32)
    )


def _runs(slots: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[int, int]]:
    """Where runs of equal slots lie."""
    cuts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]
    return (run for run in pairwise(cuts) if run[0] < run[1])


def _request(
    numbers: np.ndarray[Any, np.dtype[np.float32]],
    texts: list[tuple[str | None, ...]],
    width: int,
    ids: list[str],
    time: datetime,
) -> bytes:
    rows = len(numbers)
    tensors = [
        {"name": "numeric", "shape": list(numbers.shape), "datatype": "FP32", "data": numbers},
        {"name": "categorical", "shape": [rows, width], "datatype": "BYTES", "data": texts},
    ]
    request = {
        "inputs": tensors if width else tensors[:1],
        "parameters": {"ids": ids, "time": time.isoformat()},
    }
    return orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY)  # NaN becomes null
