"""Open Inference Protocol v2 in and out: what a request may be, and one clear sentence for what it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from sevenfold.model.tasks import BINARY, Output

MAX_BODY = 1 << 20
"""Bytes of a request body."""
MAX_ROWS = 1024
"""Rows of one request."""
MAX_LABELS = 10_000
"""Labels of one feedback request."""
MAX_TEXT = 200
"""Characters of an id."""

_NUMBER = frozenset((int, float, type(None)))
_TEXT = frozenset((str, type(None)))


class BadRequest(Exception):
    """Something the caller has to put right: an HTTP status and one sentence."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Signature:
    """Names of the columns that a model takes, in order, and what it gives."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    output: Output = BINARY.output


class Request(NamedTuple):
    """A checked request: `numeric` float32 [n, N], NaN for missing; `categorical` C columns of n texts."""

    id: str | None
    numeric: NDArray[np.float32]
    categorical: list[list[str | None]]
    ids: list[str] | None
    time: datetime | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.numeric)


def parse_request(body: bytes, signature: Signature) -> Request:
    """The request in `body`.

    Raises:
        BadRequest: the body is not a request for a model with this signature.
    """
    return check_request(_json(body), signature)


def check_request(document: Any, signature: Signature) -> Request:
    """The request in a parsed JSON document; raises as `parse_request` does."""
    document = _object(document, "the body", _REQUEST_KEYS)
    tensors = _tensors(document.get("inputs"))
    rows = _rows(tensors, signature)
    _outputs(document.get("outputs"), signature.output.name)
    ids, time = _parameters(document.get("parameters"), rows)
    return Request(
        id=_optional_text(document.get("id"), "id"),
        numeric=_numeric(tensors.get("numeric"), rows, signature.numeric),
        categorical=_categorical(tensors.get("categorical"), rows, signature.categorical),
        ids=ids,
        time=time,
    )


def render_answer(
    model: str, candidate: str, request_id: str | None, output: str, prediction: NDArray[np.float32]
) -> bytes:
    """The answer to an inference request: one output of that name, FP32 [n] or [n, K]."""
    answer: dict[str, Any] = {"model_name": model, "model_version": candidate}
    if request_id is not None:
        answer["id"] = request_id
    answer["outputs"] = [{"name": output, "datatype": "FP32", "shape": prediction.shape, "data": prediction}]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def parse_feedback(body: bytes) -> int:
    """Checks a feedback body and returns how many labels it holds.

    Raises:
        BadRequest: it is not `{"labels": [{"id", "label", "known_at"}, ...]}`.
    """
    labels = _object(_json(body), "the body", _FEEDBACK_KEYS).get("labels")
    if not isinstance(labels, list) or not labels:
        raise BadRequest("labels must be a list of at least one label")
    if len(labels) > MAX_LABELS:
        raise BadRequest(f"labels holds {len(labels)} labels; at most {MAX_LABELS} are taken at once", 413)
    for index, label in enumerate(labels):
        where = f"labels[{index}]"
        label = _object(label, where, _LABEL_KEYS)
        if _optional_text(label.get("id"), f"{where}.id") is None:
            raise BadRequest(f"{where}.id is missing")
        if type(label.get("label")) not in (int, float):
            raise BadRequest(f"{where}.label must be a number")
        parse_time(label.get("known_at"), f"{where}.known_at")
    return len(labels)


_REQUEST_KEYS = frozenset(("id", "inputs", "outputs", "parameters"))
_TENSOR_KEYS = frozenset(("name", "shape", "datatype", "data"))
_OUTPUT_KEYS = frozenset(("name",))
_PARAMETER_KEYS = frozenset(("ids", "time"))
_FEEDBACK_KEYS = frozenset(("labels",))
_LABEL_KEYS = frozenset(("id", "label", "known_at"))


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def _object(value: Any, where: str, keys: frozenset[str]) -> dict[str, Any]:
    if type(value) is not dict:
        raise BadRequest(f"{where} must be a JSON object")
    if not value.keys() <= keys:
        unknown = min(value.keys() - keys)[:MAX_TEXT]
        raise BadRequest(f"{where} has an unknown key '{unknown}'; known are {', '.join(sorted(keys))}")
    return value


def _tensors(inputs: Any) -> dict[str, dict[str, Any]]:
    if type(inputs) is not list or not inputs:
        raise BadRequest("inputs must be a list of tensors")
    tensors: dict[str, dict[str, Any]] = {}
    for index, tensor in enumerate(inputs):
        tensor = _object(tensor, f"inputs[{index}]", _TENSOR_KEYS)
        name = tensor.get("name")
        if name not in ("numeric", "categorical"):
            raise BadRequest(f"inputs[{index}].name must be numeric or categorical")
        if name in tensors:
            raise BadRequest(f"inputs holds {name} twice")
        tensors[name] = tensor
    return tensors


def _rows(tensors: dict[str, dict[str, Any]], signature: Signature) -> int:
    """Checks shapes and datatypes; returns the number of rows that the tensors agree on."""
    rows: int | None = None
    for name, datatype, columns in (
        ("numeric", "FP32", len(signature.numeric)),
        ("categorical", "BYTES", len(signature.categorical)),
    ):
        tensor = tensors.get(name)
        if tensor is None:
            if columns:
                raise BadRequest(f"inputs lacks {name} with its {columns} columns")
            continue
        if tensor.get("datatype") != datatype:
            raise BadRequest(f"{name}.datatype must be {datatype}")
        shape = tensor.get("shape")
        if (
            type(shape) is not list
            or len(shape) != 2
            or type(shape[0]) is not int
            or type(shape[1]) is not int
        ):
            raise BadRequest(f"{name}.shape must be two integers: rows, columns")
        if shape[1] != columns:
            raise BadRequest(f"{name}.shape has {shape[1]} columns; the model takes {columns}")
        if shape[0] < 1:
            raise BadRequest(f"{name}.shape must have at least one row")
        if shape[0] > MAX_ROWS:
            raise BadRequest(f"{name}.shape has {shape[0]} rows; at most {MAX_ROWS} are taken at once", 413)
        if rows is not None and shape[0] != rows:
            raise BadRequest(f"numeric has {rows} rows and categorical {shape[0]}; they must agree")
        rows = shape[0]
    if rows is None:
        raise BadRequest("inputs must hold numeric or categorical")
    return rows


def _flat(tensor: dict[str, Any] | None, rows: int, columns: int, name: str) -> list[Any]:
    """The `rows * columns` values of a tensor, given flat or as a list of rows."""
    data = [] if tensor is None else tensor.get("data")
    if type(data) is not list:
        raise BadRequest(f"{name}.data must be a list")
    if data and type(data[0]) is list:
        if len(data) != rows or any(type(row) is not list or len(row) != columns for row in data):
            raise BadRequest(f"{name}.data must be {rows} rows of {columns} values, as its shape says")
        data = list(chain.from_iterable(data))
    if len(data) != rows * columns:
        raise BadRequest(f"{name}.data has {len(data)} values; its shape asks for {rows * columns}")
    return data


def _numeric(tensor: dict[str, Any] | None, rows: int, columns: Sequence[str]) -> NDArray[np.float32]:
    data = _flat(tensor, rows, len(columns), "numeric")
    if not _NUMBER.issuperset(map(type, data)):
        index = next(i for i, value in enumerate(data) if type(value) not in _NUMBER)
        raise BadRequest(f"{_cell('numeric', index, columns)} must be a number or null")
    with np.errstate(over="ignore"):  # looked for below
        values = np.fromiter(data, np.float32, len(data)).reshape(rows, len(columns))
    if np.count_nonzero(np.isinf(values)):
        index = int(np.isinf(values).argmax())
        raise BadRequest(f"{_cell('numeric', index, columns)} is too large for FP32")
    return values


def _categorical(tensor: dict[str, Any] | None, rows: int, columns: Sequence[str]) -> list[list[str | None]]:
    data = _flat(tensor, rows, len(columns), "categorical")
    if not _TEXT.issuperset(map(type, data)):
        index = next(i for i, value in enumerate(data) if type(value) not in _TEXT)
        raise BadRequest(f"{_cell('categorical', index, columns)} must be a text or null")
    return [data[column :: len(columns)] for column in range(len(columns))]


def _cell(name: str, index: int, columns: Sequence[str]) -> str:
    row, column = divmod(index, len(columns))
    return f"{name} row {row}, column {columns[column]},"


def _outputs(outputs: Any, name: str) -> None:
    if outputs is None:
        return
    if type(outputs) is not list:
        raise BadRequest("outputs must be a list")
    for index, output in enumerate(outputs):
        if _object(output, f"outputs[{index}]", _OUTPUT_KEYS).get("name") != name:
            raise BadRequest(f"outputs[{index}].name must be {name}, the only output")


def _parameters(parameters: Any, rows: int) -> tuple[list[str] | None, datetime | None]:
    if parameters is None:
        return None, None
    parameters = _object(parameters, "parameters", _PARAMETER_KEYS)
    ids, time = parameters.get("ids"), parameters.get("time")
    if ids is not None:
        if type(ids) is not list or len(ids) != rows:
            raise BadRequest(f"parameters.ids must be a list of {rows} texts, one a row")
        if any(type(value) is not str or not 0 < len(value) <= MAX_TEXT for value in ids):
            raise BadRequest(f"parameters.ids must hold texts of 1 to {MAX_TEXT} characters")
    return ids, None if time is None else parse_time(time, "parameters.time")


def _optional_text(value: Any, where: str) -> str | None:
    if value is not None and (type(value) is not str or not 0 < len(value) <= MAX_TEXT):
        raise BadRequest(f"{where} must be a text of 1 to {MAX_TEXT} characters")
    return value


def parse_time(value: Any, where: str) -> datetime:
    """The moment, UTC, that an ISO 8601 text with its offset names; BadRequest if it names none."""
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadRequest(f"{where} must be an ISO 8601 time with its offset, such as 2013-06-01T05:00:00+00:00")
