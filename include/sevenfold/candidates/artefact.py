"""The artefact of a candidate: one ONNX file, from columns of numbers and codes to what is served."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.candidates.not_onnx import why_not
from sevenfold.data.tabular import METADATA_KEY, BadColumns, Encoder
from sevenfold.errors import SevenfoldError
from sevenfold.model.tasks import Task

if TYPE_CHECKING:
    from torch import nn

INPUTS = ("numeric", "categorical")
BATCH = 8192


class NotExported(SevenfoldError):
    """The ONNX file does not compute what the network computes."""


def export(network: nn.Module, encoder: Encoder, path: Path) -> None:
    """Writes `network`, behind it what makes its task's output, as the ONNX file `path`, whole or not at all.

    The exporter is torch's older one, on purpose: for these graphs it takes 0.2 s instead of 5, its graph
    runs twice as fast, and the file holds no paths of the machine that wrote it.
    """
    import onnx
    import torch

    task, output = encoder.task, encoder.task.output.name

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
            return task.served(self.network(numeric, categorical))

    example = (
        torch.zeros((2, len(encoder.numeric))),
        torch.zeros((2, len(encoder.categorical)), dtype=torch.int64),
    )
    half = path.with_name(f".{path.name}.{os.getpid()}")
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                Served().eval(),
                example,
                str(half),
                dynamo=False,
                input_names=list(INPUTS),
                output_names=[output],
                dynamic_axes={name: {0: "n"} for name in (*INPUTS, output)},
            )
        model = onnx.load(half)
        onnx.helper.set_model_props(model, {METADATA_KEY: encoder.to_json()})
        onnx.checker.check_model(model)
        onnx.save(model, half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def difference(
    network: nn.Module, path: Path, numeric: NDArray[np.float32], categorical: NDArray[np.int64]
) -> float:
    """Largest absolute difference between what the network and its ONNX file answer.

    Raises:
        NotExported: one of them is not a number.
    """
    import torch

    network.eval()
    scorer = Scorer(path)
    with torch.inference_mode():
        raw = network(torch.from_numpy(numeric), torch.from_numpy(categorical))
        expected = scorer.encoder.task.served(raw).numpy()
    largest = float(np.abs(scorer.run(numeric, categorical) - expected).max(initial=0.0))
    if not np.isfinite(largest):
        raise NotExported(f"the answers of {path.name} or of its network are not numbers")
    return largest


class Scorer:
    """An ONNX file ready to score columns; one thread, as it is served."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class for each of a dozen reasons
            raise BadColumns(why_not(path, error)) from None
        self._session: Any = session
        self._inputs = {node.name for node in session.get_inputs()}  # without categories there is one
        self.encoder = Encoder.from_session(session, str(path))

    @property
    def task(self) -> Task:
        """What its answers are for."""
        return self.encoder.task

    def predict(self, columns: Any) -> NDArray[np.float32]:
        """What is served for each row of `columns` (see Encoder.encode): [n] or [n, K], as its task says."""
        return self.run(*self.encoder.encode(columns))

    def run(self, numeric: NDArray[np.float32], categorical: NDArray[np.int64]) -> NDArray[np.float32]:
        """What is served for encoded rows, computed in pieces so that memory stays small."""
        output = self.task.output
        given: dict[str, NDArray[Any]] = {"numeric": numeric, "categorical": categorical}
        pieces = [
            self._session.run(
                [output.name],
                {name: of[i : i + BATCH] for name, of in given.items() if name in self._inputs},
            )[0]
            for i in range(0, len(numeric), BATCH)
        ]
        return np.concatenate(pieces) if pieces else np.empty(output.shape(0), np.float32)
