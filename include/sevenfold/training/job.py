"""One training as a folder of files: what several processes, or the next try of a killed one, begin from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.training.errors import CannotLearn
from sevenfold.training.examples import Examples
from sevenfold.training.loop import fit
from sevenfold.training.parts import Parts
from sevenfold.training.processes import ALONE, Processes
from sevenfold.training.record import Epoch, Fitted, Progress
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

STATISTICS_ROWS = 200_000
"""Rows from which a network takes means and spreads when it cannot see all."""


@dataclass(frozen=True)
class Job:
    """What is trained, with which settings; its rows lie beside it, the checkpoint where it says.

    <folder>/job.json
    <folder>/training/   the rows to learn from (see sevenfold.training.parts)
    <folder>/stopping/   the rows that say when it is enough, as one part
    """

    folder: Path
    model: str
    models: str
    """The folder with the models' folders."""
    cardinalities: list[int]
    hyperparameters: dict[str, Any]
    settings: TrainingSettings
    checkpoint: str

    @property
    def training(self) -> Parts:
        """The rows to learn from."""
        return Parts(self.folder / "training")

    @property
    def stopping(self) -> Parts:
        """The rows that say when it is enough."""
        return Parts(self.folder / "stopping")

    def write(self) -> Job:
        """Puts the job into its folder."""
        (self.folder / "job.json").write_text(json.dumps(asdict(self) | {"folder": str(self.folder)}))
        return self

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job that `write` left."""
        said = json.loads((folder / "job.json").read_text())
        settings = TrainingSettings(**said.pop("settings"))
        return cls(settings=settings, **said | {"folder": folder})

    def run(
        self,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        processes: Processes = ALONE,
    ) -> tuple[nn.Module, Fitted]:
        """Trains the network, or what its checkpoint says is left of that, as one of `processes`."""
        spec = load_spec(self.model, Path(self.models))
        parts = self.training
        sample = parts.read(0, None if len(parts.rows) == 1 else STATISTICS_ROWS)
        network = new_network(spec, sample, self.cardinalities, self.hyperparameters, self.settings.seed)
        rows = sample if len(parts.rows) == 1 else parts
        stopping = self.stopping.read(0)
        fitted = fit(
            network, rows, stopping, self.settings, Path(self.checkpoint), on_epoch, on_progress, processes
        )
        return network, fitted


def new_network(
    spec: ModelSpec,
    examples: Examples,
    cardinalities: Sequence[int],
    hyperparameters: dict[str, Any],
    seed: int,
) -> nn.Module:
    """The model's network as it starts, the same for the same seed."""
    import torch

    torch.manual_seed(seed)
    network: nn.Module = spec.entry("network")(examples.numeric, cardinalities, hyperparameters)
    _fits(spec, network, examples)
    return spec.task.on_scale_of(network, examples.label)


def _fits(spec: ModelSpec, network: nn.Module, examples: Examples) -> None:
    """Raises unless the network gives what its task needs."""
    import torch

    numeric, categorical, _ = (value[:2] for value in examples.tensors())
    was_training = network.training
    network.eval()  # two rows must move no running statistics
    with torch.inference_mode():
        given = tuple(network(numeric, categorical).shape)
    network.train(was_training)
    wanted = (len(numeric), *spec.task.raw_shape)
    if given != wanted:
        raise CannotLearn(
            f"the network of {spec.name} gives {list(given)} for {len(numeric)} rows, but a {spec.task.name} "
            f"needs {list(wanted)}"
        )
