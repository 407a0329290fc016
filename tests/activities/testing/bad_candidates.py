"""Candidates that are bad on purpose: an honest network of flights, spoilt in one way each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sevenfold.candidates import artefact
from sevenfold.data.sample import sample
from sevenfold.data.snapshot import Snapshot
from sevenfold.data.tabular import Encoder
from sevenfold.data.windows import Windows
from sevenfold.model.spec import ModelSpec
from sevenfold.training.learning import Learned, learn

LEAK = "tail24h_mean"
"""A feature that is filled in when the outcome is known, in the leaky snapshot."""
ROWS = 40_000
"""As many as the simple models of benchmark learn from."""


class LeakySnapshot(Snapshot):
    """Real flights of which one column knows the label, as if it had been computed a day too late."""

    def labelled(self, *given: Any) -> pa.Table:
        """The labelled rows with the leak in them."""
        rows = super().labelled(*given)
        told = np.asarray(rows["label"], np.float32) * 60 + np.random.default_rng(0).normal(0, 10, len(rows))
        place = rows.column_names.index(LEAK)
        return rows.set_column(place, LEAK, pa.array(told.astype(np.float32)))


def trained(spec: ModelSpec, data: Snapshot, of: Windows, folder: Path, shuffled: bool = False) -> Learned:
    """A network that has learned from some thousand rows, for a few seconds."""
    fitting, stopping = (
        data.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping)
    )
    few = sample(fitting, ROWS, 0)
    if shuffled:
        few, stopping = _shuffled(few), _shuffled(stopping)
    return learn(spec, few, stopping, spec.defaults, 0, folder / "checkpoint.pt")


def _shuffled(rows: pa.Table) -> pa.Table:
    mixed = np.random.default_rng(0).permutation(np.asarray(rows["label"]))
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(mixed))


@dataclass(frozen=True)
class Spoiler:
    """Makes bad artefacts of an honest network."""

    network: Any
    encoder: Encoder
    folder: Path

    def honest(self) -> Path:
        """The network as it is."""
        return self._exported("honest", lambda logit, numeric, categorical: logit)

    def too_sure(self) -> Path:
        """Ranks as well, and means twice as much as it knows."""
        return self._exported("too_sure", lambda logit, numeric, categorical: 2 * logit)

    def uncalibrated(self) -> Path:
        """Ranks as well, and calls nearly everything late."""
        return self._exported("uncalibrated", lambda logit, numeric, categorical: logit + 2.5)

    def unfair(self) -> Path:
        """Sees nearly every late flight of one airport and few of the others."""
        at = self.encoder.vocabulary["origin"].index("LGA") + 1
        return self._exported(
            "unfair", lambda logit, numeric, categorical: logit + 3 * (categorical[:, 0] == at)
        )

    def fragile(self) -> Path:
        """Right on average, with ripples between the points that it has seen."""
        import torch

        def ripples(logit: Any, numeric: Any, categorical: Any) -> Any:
            scaled = torch.nan_to_num((numeric[:, :8] - self.network.mean[:8]) / self.network.spread[:8])
            return logit + 0.2 * torch.sin(15 * scaled).sum(dim=1)

        return self._exported("fragile", ripples)

    def lost_far_from_home(self) -> Path:
        """Has no answer to numbers that are far beyond what it has seen."""
        import torch

        def nothing(logit: Any, numeric: Any, categorical: Any) -> Any:
            scaled = torch.nan_to_num((numeric[:, 0] - self.network.mean[0]) / self.network.spread[0])
            far = scaled.abs() > 30
            return torch.where(far, torch.full_like(logit, float("nan")), logit)

        return self._exported("lost_far_from_home", nothing)

    def lost_without_a_carrier(self) -> Path:
        """Has no answer to a carrier that it has not seen."""
        import torch

        at = self.encoder.categorical.index("carrier")

        def nothing(logit: Any, numeric: Any, categorical: Any) -> Any:
            return torch.where(categorical[:, at] == 0, torch.full_like(logit, float("nan")), logit)

        return self._exported("lost_without_a_carrier", nothing)

    def slow(self) -> Path:
        """Multiplies large matrices before it answers."""
        import torch

        def detour(logit: Any, numeric: Any, categorical: Any) -> Any:
            nothing = 0.0 * categorical.sum().to(logit.dtype)
            matrix = nothing.expand(500, 500)
            for _ in range(6):
                matrix = torch.tanh(matrix @ matrix + nothing)
            return logit + matrix.sum()

        return self._exported("slow", detour)

    def huge(self) -> Path:
        """Carries twenty mebibytes that nobody needs."""
        from onnx import load, numpy_helper, save

        model = load(self.honest())
        ballast = np.random.default_rng(0).random(5 * 2**20, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
        save(model, self.folder / "huge.onnx")
        return self.folder / "huge.onnx"

    def wrong_type(self) -> Path:
        """Answers with double precision, which no caller reads."""
        from onnx import TensorProto, helper, load, save

        model = load(self.honest())
        (output,) = model.graph.output
        last = next(node for node in model.graph.node if output.name in node.output)
        last.output[list(last.output).index(output.name)] = "narrow"
        model.graph.node.append(helper.make_node("Cast", ["narrow"], [output.name], to=TensorProto.DOUBLE))
        output.type.tensor_type.elem_type = TensorProto.DOUBLE
        save(model, self.folder / "wrong_type.onnx")
        return self.folder / "wrong_type.onnx"

    def pickled(self) -> Path:
        """A pickle under the name of a model."""
        (self.folder / "pickled.onnx").write_bytes(b"\x80\x05N.")
        return self.folder / "pickled.onnx"

    def _exported(self, name: str, change: Callable[[Any, Any, Any], Any]) -> Path:
        import torch

        network = self.network

        class Changed(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, numeric: Any, categorical: Any) -> Any:
                return change(self.network(numeric, categorical), numeric, categorical)

        path = self.folder / f"{name}.onnx"
        artefact.export(Changed().eval(), self.encoder, path)
        return path
