"""The ONNX file of a candidate, ready to answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sevenfold.candidates.not_onnx import why_not
from sevenfold.data.tabular import Encoder
from sevenfold.errors import SevenfoldError
from sevenfold.model.tasks import Output
from sevenfold.serving.protocol import MAX_ROWS, BadRequest, Signature

Texts = Sequence[Sequence[str | None]]
Feed = dict[str, NDArray[Any]]


class BadModel(SevenfoldError):
    """A file that is not a model that can be served."""


class ServedModel:
    """Answers rows as the model's task says, on one thread: replicas are processes."""

    def __init__(self, path: Path) -> None:
        """Loads the file and runs it with one row and with many, so that no caller waits for the first time.

        Raises:
            BadModel: the file is no ONNX model, or does not answer as a model of ours.
            BadColumns: the file does not say what its columns are.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each kind of defect
            raise BadModel(why_not(path, error)) from error
        self._encoder = Encoder.from_session(self._session, str(path))
        self._output = self._encoder.task.output
        self._outputs = [self._output.name]
        self.signature = Signature(self._encoder.numeric, self._encoder.categorical, self._output)
        inputs = {node.name for node in self._session.get_inputs()}
        self._takes_numeric, self._takes_categorical = "numeric" in inputs, "categorical" in inputs
        self._one_row: _OneRow | None = None
        for rows in (1, 64, MAX_ROWS):
            self._warm_up(path, rows)
        self._one_row = _OneRow(self._session, self._feed(*self._zeros(1)), self._output)
        self._warm_up(path, 1)

    def _warm_up(self, path: Path, rows: int) -> None:
        try:
            answer = self.predict(*self._zeros(rows))
        except Exception as error:
            raise BadModel(f"{path} cannot answer {rows} rows of zeros: {error}") from error
        wanted = self._output.shape(rows)
        if answer.shape != wanted or answer.dtype != np.float32:
            raise BadModel(
                f"{path} answers {rows} rows with {answer.dtype} {list(answer.shape)}, "
                f"not float32 {list(wanted)}"
            )

    def predict(self, numeric: NDArray[np.float32], categorical: Texts) -> NDArray[np.float32]:
        """What is served, float32 [n] or [n, K].

        Args:
            numeric: [n, N], NaN for missing.
            categorical: C columns of n texts, None for missing.

        Raises:
            BadRequest: the numbers are so large that the model's arithmetic has no answer for a row.
        """
        feed = self._feed(numeric, categorical)
        prediction: NDArray[np.float32]
        if len(numeric) == 1 and self._one_row is not None:
            prediction = self._one_row.run(feed)
        else:
            prediction = self._session.run(self._outputs, feed)[0]
        if prediction.size == 1 and math.isfinite(prediction.item()):
            return prediction
        finite = np.isfinite(prediction)
        if np.count_nonzero(finite) != finite.size:
            row = int(finite.reshape(len(numeric), -1).all(axis=1).argmin())
            raise BadRequest(f"row {row} holds numbers outside of what the model can compute with")
        return prediction

    def _feed(self, numeric: NDArray[np.float32], categorical: Texts) -> Feed:
        """What the session takes."""
        feed: Feed = {}
        if self._takes_numeric:
            feed["numeric"] = numeric
        if self._takes_categorical:
            feed["categorical"] = self._encoder.code_columns(categorical, len(numeric))
        return feed

    def _zeros(self, rows: int) -> tuple[NDArray[np.float32], Texts]:
        numeric = np.zeros((rows, len(self.signature.numeric)), np.float32)
        return numeric, [[None] * rows for _ in self.signature.categorical]


class _OneRow:
    """A session whose inputs and output for one row are bound once: to find out each time what it is given
    and where its answer goes takes a sixth of a small network's time."""

    def __init__(self, session: ort.InferenceSession, feed: Feed, output: Output) -> None:
        self._session, self._binding = session, session.io_binding()
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(values) for name, values in feed.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(output.shape(1), np.float32)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """The answer, a copy of its own."""
        for name, values in feed.items():
            self._inputs[name].update_inplace(values)
        self._session.run_with_iobinding(self._binding)
        answer: NDArray[np.float32] = self._output.numpy().copy()  # the next run writes into the same memory
        return answer
