"""Turns rows into the two tensors of the artefact: one function for trainer, tests and server.

Scaling, missing values and embeddings are inside the ONNX graph. All that is left outside is the code of a
category's text, and its vocabulary travels in the ONNX file's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.candidates.not_onnx import why_not
from sevenfold.errors import SevenfoldError
from sevenfold.model import tasks
from sevenfold.model.tasks import BINARY, Task

METADATA_KEY = "sevenfold"
UNSEEN = 0
"""Code of every category that training never saw, and of a missing one."""


class BadColumns(SevenfoldError):
    """Columns that are missing or of the wrong type, or an artefact that does not say what it wants."""


@dataclass(frozen=True)
class Encoder:
    """Names, order and vocabulary of a model's inputs, and the task that its answers are for."""

    model: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    vocabulary: Mapping[str, tuple[str, ...]]
    """Category texts by column; the code of a text is its place, counted from 1."""
    task: Task = BINARY

    @classmethod
    def fit(
        cls,
        columns: Any,
        model: str,
        numeric: Sequence[str],
        categorical: Sequence[str],
        task: Task = BINARY,
    ) -> Encoder:
        """The encoder whose vocabulary is what `columns`, the training rows, hold."""
        seen = {name: tuple(sorted(_distinct(_column(columns, name)))) for name in categorical}
        return cls(model, tuple(numeric), tuple(categorical), seen, task)

    @classmethod
    def from_onnx(cls, path: Path) -> Encoder:
        """The encoder that the ONNX file at `path` carries.

        Raises:
            BadColumns: the file is no ONNX model, or not one of Sevenfold's.
        """
        import onnxruntime

        try:
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class for each of a dozen reasons
            raise BadColumns(why_not(path, error)) from None
        return cls.from_session(session, str(path))

    @classmethod
    def from_session(cls, session: Any, where: str = "the artefact") -> Encoder:
        """The encoder that an open ONNX Runtime session carries."""
        said = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if said is None:
            raise BadColumns(f"{where} has no {METADATA_KEY!r} in its metadata: it is not one of Sevenfold's")
        try:
            return cls.from_json(said)
        except (ValueError, KeyError, TypeError) as error:
            raise BadColumns(f"the metadata {METADATA_KEY!r} of {where} cannot be read: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """The encoder that `to_json` wrote."""
        said = json.loads(text)
        vocabulary = {name: tuple(values) for name, values in said["vocabulary"].items()}
        task = tasks.of(said["task"]) if "task" in said else BINARY
        return cls(said["model"], tuple(said["numeric"]), tuple(said["categorical"]), vocabulary, task)

    def to_json(self) -> str:
        """What stands in the ONNX file's metadata."""
        return json.dumps(
            {
                "model": self.model,
                "numeric": self.numeric,
                "categorical": self.categorical,
                "vocabulary": self.vocabulary,
                "task": self.task.described(),
            },
            sort_keys=True,
        )

    @property
    def cardinalities(self) -> list[int]:
        """Number of codes of each categorical column, the one for unseen included."""
        return [len(self.vocabulary[name]) + 1 for name in self.categorical]

    def encode(self, columns: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Numeric [n, N] with NaN where a value is missing, and categorical codes [n, C].

        Args:
            columns: a mapping from name to n values, a pyarrow Table or a pandas DataFrame. More columns than
                the features may be there, in any order.

        Raises:
            BadColumns: a feature is missing, or not of its type.
        """
        numbers: list[NDArray[Any]] = [_numbers(name, _column(columns, name)) for name in self.numeric]
        codes: list[NDArray[Any]] = [self.codes(name, _column(columns, name)) for name in self.categorical]
        lengths = {len(values) for values in [*numbers, *codes]}
        if len(lengths) > 1:
            raise BadColumns(f"the columns have different lengths: {sorted(lengths)}")
        rows = lengths.pop() if lengths else 0
        numeric = np.stack(numbers, axis=1) if numbers else np.empty((rows, 0), np.float32)
        categorical = np.stack(codes, axis=1) if codes else np.empty((rows, 0), np.int64)
        return numeric, categorical

    def codes(self, name: str, values: Any) -> NDArray[np.int64]:
        """The code of each category text of one column; `UNSEEN` for what training did not see."""
        book = self._books[name]
        if hasattr(values, "dictionary_encode"):  # pyarrow: look up each distinct text once
            encoded = values.dictionary_encode(null_encoding="encode")
            encoded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
            distinct = self.codes(name, encoded.dictionary.to_pylist())
            indices = encoded.indices.to_numpy()
            return distinct[indices] if len(distinct) else np.zeros(len(indices), np.int64)
        return np.fromiter(map(book.__getitem__, values), np.int64, len(values))

    def code_columns(self, columns: Sequence[Sequence[str | None]], rows: int) -> NDArray[np.int64]:
        """The codes [rows, C] of C columns of texts, in the order of `categorical`: `codes` for a request."""
        if rows == 1:
            both = zip(self._lookups, columns, strict=True)
            return np.array([[code_of(text) for code_of, (text,) in both]], np.int64)
        flat: list[int] = []
        for code_of, texts in zip(self._lookups, columns, strict=True):
            flat.extend(map(code_of, texts))
        return np.fromiter(flat, np.int64, len(flat)).reshape(len(columns), rows).T

    @cached_property
    def _lookups(self) -> list[Callable[[str | None], int]]:
        return [self._books[name].__getitem__ for name in self.categorical]

    @cached_property
    def _books(self) -> dict[str, _Book]:
        return {
            name: _Book((text, code) for code, text in enumerate(self.vocabulary[name], start=1))
            for name in self.categorical
        }


class _Book(dict[str | None, int]):
    """Codes by text."""

    def __missing__(self, text: str | None) -> int:
        return UNSEEN


def _column(columns: Any, name: str) -> Any:
    try:
        return columns[name]
    except (KeyError, IndexError):
        raise BadColumns(f"the rows lack the column {name}") from None


def _numbers(name: str, values: Any) -> NDArray[np.float32]:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype == object:  # numbers with None between them
        array = np.array([np.nan if value is None else value for value in array.tolist()])
    if array.dtype.kind not in "fiub" or array.ndim != 1:
        raise BadColumns(f"column {name} must hold numbers, but holds {array.dtype}")
    with np.errstate(over="ignore"):  # beyond float32 is as good as infinite; the network clamps it
        return array.astype(np.float32)


def _distinct(values: Any) -> set[str]:
    texts = values.unique() if hasattr(values, "unique") else values
    texts = texts.to_pylist() if hasattr(texts, "to_pylist") else texts
    return {str(text) for text in texts if text is not None}
