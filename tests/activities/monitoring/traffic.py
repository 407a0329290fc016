"""Live traffic without a stack: what servers would have written to the prediction and feedback logs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from sevenfold.model.spec import ModelSpec
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.protocol import Signature
from sevenfold.serving.pseudonyms import Pseudonyms

BATCH = 10


def serve(
    logs: Path,
    spec: ModelSpec,
    candidate: str,
    rows: pa.Table,
    probability: np.ndarray[Any, Any],
    *,
    arm: str = "champion",
    request: str = "r",
    named: bool = True,
    personal: Pseudonyms | None = None,
) -> None:
    """Logs `rows` (id, time, features) as requests of 10 rows, each at its first row's time."""
    signature = Signature(spec.numeric, spec.categorical)
    log = PredictionLog(logs, spec.name, candidate, signature, lambda: personal)
    for start in range(0, rows.num_rows, BATCH):
        part = rows.slice(start, BATCH)
        numeric = [None if value != value else value for value in _values(part, spec.numeric)]
        parameters = {"ids": part["id"].to_pylist()} if named else {}
        body = {
            "inputs": [
                _tensor("numeric", "FP32", part.num_rows, len(spec.numeric), numeric),
                _tensor(
                    "categorical",
                    "BYTES",
                    part.num_rows,
                    len(spec.categorical),
                    _values(part, spec.categorical),
                ),
            ],
            "parameters": parameters,
        }
        log.append(
            time=part["time"][0].as_py(),
            request_id=f"{request}{start:06d}",
            arm=arm,
            prediction=probability[start : start + BATCH].astype(np.float32),
            microseconds=1000 + start % 7,
            request=orjson.dumps(body),
        )


def give_back(logs: Path, model: str, labels: pa.Table) -> None:
    """Logs labels (id, label, known_at) as one feedback request."""
    entries = [
        {"id": name, "label": label, "known_at": known.isoformat()}
        for name, label, known in zip(
            *(labels[column].to_pylist() for column in ("id", "label", "known_at")), strict=True
        )
    ]
    FeedbackLog(logs, model).append(orjson.dumps({"labels": entries}))


def between(rows: pa.Table, start: datetime, end: datetime) -> pa.Table:
    """The rows with start <= time < end."""
    times = rows["time"].to_pylist()
    return rows.filter(pa.array([start <= time < end for time in times]))


def _values(rows: pa.Table, names: tuple[str, ...]) -> list[Any]:
    columns = [[np.nan if value is None else value for value in rows[name].to_pylist()] for name in names]
    return [value for row in zip(*columns, strict=True) for value in row]


def _tensor(name: str, datatype: str, rows: int, columns: int, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [rows, columns], "data": data}
