"""The usual request, read in one go: msgspec checks form and types while it parses, in half of the time.

`read` only ever says yes, and only to what `protocol.check_request` would read in the same way; whatever it
does not take is read again with care, and that is where the sentence about a mistake comes from. A test sets
the two readers against each other.
"""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sevenfold.serving.protocol import MAX_ROWS, MAX_TEXT, BadRequest, Request, Signature, parse_time

_LARGEST = float(np.finfo(np.float32).max)
_Number = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="name"):
    shape: tuple[int, int]


class _Numeric(_Tensor, tag="numeric"):
    datatype: Literal["FP32"]
    data: list[list[_Number | None]]


class _Categorical(_Tensor, tag="categorical"):
    datatype: Literal["BYTES"]
    data: list[list[str | None]]


class _Parameters(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ids: list[_Text] | None = None
    time: str | None = None


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Numeric | _Categorical]
    id: _Text | None = None
    parameters: _Parameters | None = None


_decode = msgspec.json.Decoder(_Request).decode


def read(body: bytes, signature: Signature) -> Request | None:
    """The request in `body`, with its rows as lists; None if it has to be read with care."""
    try:
        asked = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    numbers, texts = _both(asked.inputs)
    if numbers is None or texts is None:
        return None
    (rows, _), columns = numbers.shape, len(signature.categorical)
    if not 1 <= rows <= MAX_ROWS:
        return None
    if numbers.shape != (rows, len(signature.numeric)) or texts.shape != (rows, columns):
        return None
    if len(texts.data) != rows or any([len(row) != columns for row in texts.data]):
        return None
    numeric = _array(numbers)
    if numeric is None:
        return None
    ids, time = None, None
    if asked.parameters is not None:
        ids = asked.parameters.ids
        if ids is not None and len(ids) != rows:
            return None
        if asked.parameters.time is not None:
            try:
                time = parse_time(asked.parameters.time, "parameters.time")
            except BadRequest:
                return None
    return Request(asked.id, numeric, [list(column) for column in zip(*texts.data, strict=True)], ids, time)


def _both(tensors: list[_Numeric | _Categorical]) -> tuple[_Numeric | None, _Categorical | None]:
    if len(tensors) != 2:
        return None, None
    first, second = tensors
    if type(first) is _Numeric and type(second) is _Categorical:
        return first, second
    if type(first) is _Categorical and type(second) is _Numeric:
        return second, first
    return None, None


def _array(tensor: _Numeric) -> NDArray[np.float32] | None:
    """The values, packed at once: numpy would look at each in turn."""
    rows, columns = tensor.shape
    if len(tensor.data) != rows or any([len(row) != columns for row in tensor.data]):
        return None
    values, form = list(chain.from_iterable(tensor.data)), f"{rows * columns}f"
    try:
        packed = struct.pack(form, *values)
    except struct.error:  # some are missing
        packed = struct.pack(form, *[math.nan if value is None else value for value in values])
    return np.frombuffer(packed, np.float32).reshape(rows, columns)
