"""From rows to a trained network with its encoder: the one way in development, search and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.spec import ModelSpec
from sevenfold.tabular import Encoder
from sevenfold.training import Epoch, Examples, Fitted, TrainingSettings, fit
from sevenfold.training.calibration import calibrated
from sevenfold.training.record import Progress

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

FEWEST_STEPS = 40
"""Steps of an epoch below which batches get smaller: a sample needs as many steps as the whole."""
SMALLEST_BATCH = 64


@dataclass(frozen=True)
class Learned:
    """A network, what encodes its rows, and how training went."""

    network: nn.Module
    """What is exported: trained and, if the settings want it, calibrated."""
    trained: nn.Module
    """As training left it."""
    encoder: Encoder
    fitted: Fitted


def learn(
    spec: ModelSpec,
    fitting: pa.Table,
    stopping: pa.Table,
    hyperparameters: Mapping[str, Any],
    seed: int,
    checkpoint: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Learned:
    """Trains the model's network on the rows of `fitting`; those of `stopping` say when it is enough.

    Both have the features and a column `label`. Vocabulary, means and spreads come from `fitting` alone.

    Raises:
        CannotLearn: see sevenfold.training.fit.
    """
    import torch

    encoder = Encoder.fit(fitting, spec.name, spec.numeric, spec.categorical, spec.task)
    examples, last = Examples.of(fitting, encoder), Examples.of(stopping, encoder)
    settings = TrainingSettings.of(hyperparameters, seed)
    fitting_batch = max(SMALLEST_BATCH, len(examples) // FEWEST_STEPS)
    settings = replace(settings, batch_size=min(settings.batch_size, fitting_batch))
    torch.manual_seed(seed)
    network = spec.entry("network")(examples.numeric, encoder.cardinalities, hyperparameters)
    network = spec.task.on_scale_of(network, examples.label)
    fitted = fit(network, examples, last, settings, checkpoint, on_epoch, on_progress)
    return Learned(calibrated(network, last, settings), network, encoder, fitted)
