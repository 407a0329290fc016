"""From rows to a trained network with its encoder: the one way in development, search and training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.data.tabular import Encoder
from sevenfold.measures.evaluation import Floats
from sevenfold.model.spec import ModelSpec
from sevenfold.training import Epoch, Examples, Fitted, TrainingSettings, fit
from sevenfold.training.calibration import calibrated
from sevenfold.training.job import Job, new_network
from sevenfold.training.launch import Launch
from sevenfold.training.parts import deal
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
    rows: int
    """How many labelled rows it was fitted to."""

    def predict(self, rows: pa.Table) -> Floats:
        """The network's own predictions, before any export: [n] or [n, K], as its task says."""
        import torch

        numeric, categorical = (torch.from_numpy(values) for values in self.encoder.encode(rows))
        with torch.inference_mode():
            found: Floats = self.encoder.task.served(self.network(numeric, categorical)).numpy()
        return found


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
    encoder = Encoder.fit(fitting, spec.name, spec.numeric, spec.categorical, spec.task)
    examples, last = Examples.of(fitting, encoder), Examples.of(stopping, encoder)
    settings = settings_for(len(examples), hyperparameters, seed)
    network = new_network(spec, examples, encoder.cardinalities, dict(hyperparameters), seed)
    fitted = fit(network, examples, last, settings, checkpoint, on_epoch, on_progress)
    return Learned(calibrated(network, last, settings), network, encoder, fitted, len(examples))


def learn_from_files(
    spec: ModelSpec,
    fitting: Callable[[], Iterator[pa.Table]],
    stopping: pa.Table,
    hyperparameters: Mapping[str, Any],
    seed: int,
    checkpoint: Path,
    launch: Launch,
    parts: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Learned | None:
    """The same by several processes, or of more rows than memory holds; None on all nodes but the first.

    `fitting` gives the rows in pieces, once for the vocabulary and once to be encoded; `parts` is into how
    many they are dealt, of which one at a time is in memory. What is written beside `checkpoint` meanwhile is
    gone at the end.

    Raises:
        CannotLearn: see sevenfold.training.fit.
        TrainingFailed: one of the processes ended with an error; this is its sentence.
    """
    encoder = _encoder(spec, fitting())
    folder = checkpoint.with_suffix(f".{launch.node}.job")  # nodes may share the disk
    rows = deal((Examples.of(piece, encoder) for piece in fitting()), folder / "training", parts, seed)
    last = Examples.of(stopping, encoder)
    deal([last], folder / "stopping")
    settings = settings_for(sum(rows.rows), hyperparameters, seed)
    job = Job(
        folder=folder,
        model=spec.name,
        models=str(spec.folder.parent),
        cardinalities=encoder.cardinalities,
        hyperparameters=dict(hyperparameters),
        settings=settings,
        checkpoint=str(checkpoint),
    ).write()
    try:
        done = launch.run(job, on_epoch, on_progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done is None:
        return None
    network, fitted = done
    return Learned(calibrated(network, last, settings), network, encoder, fitted, sum(rows.rows))


def settings_for(rows: int, hyperparameters: Mapping[str, Any], seed: int) -> TrainingSettings:
    """The settings of training on so many rows."""
    settings = TrainingSettings.of(hyperparameters, seed)
    return replace(settings, batch_size=min(settings.batch_size, largest_batch(rows)))


def largest_batch(rows: int) -> int:
    """The largest batch that leaves an epoch of so many rows enough steps."""
    return max(SMALLEST_BATCH, rows // FEWEST_STEPS)


def _encoder(spec: ModelSpec, pieces: Iterator[pa.Table]) -> Encoder:
    """The encoder that has seen every piece."""
    seen: dict[str, set[str]] = {name: set() for name in spec.categorical}
    for piece in pieces:
        found = Encoder.fit(piece, spec.name, spec.numeric, spec.categorical, spec.task)
        for name in spec.categorical:
            seen[name].update(found.vocabulary[name])
    vocabulary = {name: tuple(sorted(texts)) for name, texts in seen.items()}
    return Encoder(spec.name, spec.numeric, spec.categorical, vocabulary, spec.task)
