"""The training loop: tensors in, the best network of all epochs out. Plain PyTorch, model-independent.

Killed at any moment and started again, it ends bit for bit where it would have ended: the order of the rows
is a function of (seed, epoch), dropout of (seed, step), and everything else is in the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.errors import SevenfoldError
from sevenfold.tabular import Encoder

if TYPE_CHECKING:
    from torch import Tensor, nn

    Tensors = tuple[Tensor, Tensor, Tensor]

SCORING_BATCH = 32_768


class CannotLearn(SevenfoldError):
    """Data or settings from which nothing can be learned."""


@dataclass(frozen=True)
class Examples:
    """Encoded rows with their labels: numeric [n, N], categorical [n, C], label [n] of 0 and 1."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]
    label: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Any, encoder: Encoder) -> Examples:
        """Rows with a column `label`, encoded."""
        return cls(*encoder.encode(rows), np.asarray(rows["label"], np.float32))

    def __len__(self) -> int:
        return len(self.label)

    def tensors(self) -> Tensors:
        """The same memory as tensors."""
        import torch

        return (
            torch.from_numpy(self.numeric),
            torch.from_numpy(self.categorical),
            torch.from_numpy(self.label),
        )


@dataclass(frozen=True)
class TrainingSettings:
    """What decides how a network is trained, besides its rows."""

    epochs: int = 8
    batch_size: int = 2048
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    patience: int = 5
    """Epochs without a better stopping loss after which training ends."""
    seed: int = 0
    checkpoint_steps: int = 100
    """Steps between checkpoints; one more is written after each epoch."""

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], seed: int = 0) -> TrainingSettings:
        """The settings among a model's hyperparameters; the others belong to its network."""
        names = ("epochs", "batch_size", "learning_rate", "weight_decay", "patience")
        return cls(seed=seed, **{name: hyperparameters[name] for name in names if name in hyperparameters})


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean log losses, and the rows trained on a second."""

    number: int
    training_loss: float
    stopping_loss: float
    rows_per_second: float


@dataclass(frozen=True)
class Fitted:
    """The result of `fit`; the network itself now has the weights of its best epoch."""

    history: tuple[Epoch, ...]
    best: Epoch
    seconds: float
    """Since this process began to train; after a resumption only what was left."""
    resumed_at: int
    """Step at which this process took over, 0 if it began."""


def fit(
    network: nn.Module,
    examples: Examples,
    stopping: Examples,
    settings: TrainingSettings,
    checkpoint: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fitted:
    """Trains `network` in place and leaves it with the weights of the epoch that `stopping` liked best.

    AdamW on the binary cross-entropy with a one-cycle learning rate (Smith and Topin, 2018). `checkpoint` is
    where an interrupted run continues; one that other rows, settings or another network left is ignored.

    Raises:
        CannotLearn: no rows, labels that are all equal or no 0 and 1, or a loss that is not a number.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    _check(examples, stopping)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    numeric, categorical, label = examples.tensors()
    n, steps_of_epoch = len(examples), -(-len(examples) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps_of_epoch
    )
    run = _Run(network, optimizer, scheduler, checkpoint, _identity(network, examples, stopping, settings))
    resumed_at, began = run.resume(), time.monotonic()

    while not run.finished(settings):
        epoch, first = divmod(run.step, steps_of_epoch)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(settings.seed * 100_003 + epoch))
        network.train()
        began_epoch, began_step = time.monotonic(), run.step
        for number in range(first, steps_of_epoch):
            rows = order[number * settings.batch_size : (number + 1) * settings.batch_size]
            torch.manual_seed((settings.seed << 32) + run.step)
            optimizer.zero_grad(set_to_none=True)
            loss = binary_cross_entropy_with_logits(network(numeric[rows], categorical[rows]), label[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            run.loss += loss.detach().double() * (len(rows) / n)
            run.step += 1
            if run.step % settings.checkpoint_steps == 0 and number + 1 < steps_of_epoch:
                run.save()
        rows_per_second = (run.step - began_step) * settings.batch_size / (time.monotonic() - began_epoch)
        result = Epoch(epoch + 1, float(run.loss), mean_loss(network, stopping), rows_per_second)
        if not np.isfinite([result.training_loss, result.stopping_loss]).all():
            raise CannotLearn(
                f"the loss became {result.training_loss} in epoch {result.number} with a learning rate of "
                f"{settings.learning_rate}: try a smaller one; nothing was kept"
            )
        run.end_epoch(result)
        on_epoch(result)
    network.load_state_dict(run.best_weights)
    network.eval()
    return Fitted(tuple(run.history), run.best, time.monotonic() - began, resumed_at)


def mean_loss(network: nn.Module, examples: Examples) -> float:
    """Mean log loss of the network's logits on `examples`."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    network.eval()
    numeric, categorical, label = examples.tensors()
    total = 0.0
    with torch.inference_mode():
        for i in range(0, len(examples), SCORING_BATCH):
            rows = slice(i, i + SCORING_BATCH)
            logits = network(numeric[rows], categorical[rows])
            total += float(binary_cross_entropy_with_logits(logits, label[rows], reduction="sum").double())
    return total / len(examples)


def verified(checkpoint: Path, network: nn.Module) -> bool:
    """Whether the checkpoint on disk is finished and holds, bit for bit, the weights that `network` has."""
    import torch

    state = torch.load(checkpoint, weights_only=True)["best_weights"]
    own = network.state_dict()
    return state.keys() == own.keys() and all(torch.equal(state[name], own[name]) for name in own)


class _Run:
    """Where a training run is, and its way to and from the checkpoint file."""

    def __init__(self, network: nn.Module, optimizer: Any, scheduler: Any, path: Path, identity: str) -> None:
        import torch

        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.path, self.identity = path, identity
        self.step = 0
        self.loss = torch.zeros((), dtype=torch.float64)
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def best(self) -> Epoch:
        return min(self.history, key=lambda epoch: epoch.stopping_loss)

    def finished(self, settings: TrainingSettings) -> bool:
        done = len(self.history)
        return done == settings.epochs or (done > 0 and done - self.best.number >= settings.patience)

    def end_epoch(self, result: Epoch) -> None:
        self.history.append(result)
        if self.best is result:
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.loss.zero_()
        self.save()

    def save(self) -> None:
        """Writes everything, in one step: a reader, or the next run, sees the old file or the new one."""
        import torch

        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with half.open("wb") as file:
                torch.save(self._state(), file)
                file.flush()
                os.fsync(file.fileno())
            half.replace(self.path)
        finally:
            half.unlink(missing_ok=True)

    def resume(self) -> int:
        """Takes over from the checkpoint, if it is this run's; the step to continue from."""
        import torch

        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception:  # torch has one class for each way a file can be broken; none of them can be healed
            return 0
        if state.get("identity") != self.identity:
            return 0
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step, self.loss = state["step"], state["loss"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_weights = state["best_weights"]
        return self.step

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "loss": self.loss,
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": self.best_weights,
        }


def _check(examples: Examples, stopping: Examples) -> None:
    for name, some in (("training", examples), ("stopping", stopping)):
        if not len(some):
            raise CannotLearn(f"the {name} window has no labelled rows")
        values = np.unique(some.label)
        if not np.isin(values, (0, 1)).all():
            raise CannotLearn(
                f"the labels of the {name} window must be 0 or 1, but {values[0]} is among them"
            )
    if len(np.unique(examples.label)) == 1:
        raise CannotLearn(
            f"all {len(examples):,} labels of the training window are {examples.label[0]:.0f}: "
            "there is nothing to tell apart"
        )


def _identity(network: nn.Module, examples: Examples, stopping: Examples, settings: TrainingSettings) -> str:
    """SHA-256 of all that decides the result: the rows, the settings and the network as it starts."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for some in (examples, stopping):
        for array in (some.numeric, some.categorical, some.label):
            digest.update(np.ascontiguousarray(array).data)
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
