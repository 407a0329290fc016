"""Where a training run is, and its way to and from the checkpoint file: written whole or not at all.

A checkpoint holds everything that decides how the run goes on: weights, optimiser, schedule, gradient scaler,
step, history and the best weights. The order of the rows and dropout's chance are functions of seed and step,
so sampler and random numbers are in it as the step.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError
from sevenfold.training.errors import CannotLearn
from sevenfold.training.processes import Processes
from sevenfold.training.record import Epoch
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

DIGEST_BYTES = 32
"""A checkpoint file begins with the SHA-256 of the rest of it."""


class BadCheckpoint(SevenfoldError):
    """The checkpoint file is not what was written."""


class NotWritten(SevenfoldError):
    """There was no room for the checkpoint; the one before it is still there."""

    retry = True


class Run:
    """The state of a run.

    Args:
        parts: what goes on from step to step: network, optimizer, scheduler, scaler.
        path: the checkpoint file.
        identity: a hash of all that decides the result; a checkpoint of another one is not continued.
    """

    def __init__(
        self,
        parts: dict[str, Any],
        path: Path,
        identity: str,
        settings: TrainingSettings,
        processes: Processes,
        device: str,
    ) -> None:
        import torch

        self.step = 0
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        """Of the epoch so far: this process's part of the mean."""
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}
        self._parts, self._path, self._identity = parts, path, identity
        self._settings, self._processes, self._device = settings, processes, device

    @property
    def best(self) -> Epoch:
        """The epoch that the stopping rows liked best."""
        return min(self.history, key=lambda epoch: epoch.stopping_loss)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        done = len(self.history)
        impatient = done > 0 and done - self.best.number >= self._settings.patience
        return done == self._settings.epochs or impatient

    def end_epoch(self, result: Epoch) -> None:
        """Adds an epoch and keeps its weights if they are the best so far."""
        self._refuse_what_is_no_number(result.training_loss, result.stopping_loss)
        self.history.append(result)
        if self.best is result:
            weights = self._parts["network"].state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}
        self.loss.zero_()
        self.save()

    def save(self) -> None:
        """Writes everything, in one step: a reader, or the next run, sees the old file or the new one.

        Raises:
            CannotLearn: the loss is not a number, so there is nothing worth keeping.
            NotWritten: the disk is full, or another reason of the file system.
        """
        import torch

        loss = self._processes.sum(self.loss.clone())
        self._refuse_what_is_no_number(float(loss))
        state = self._state(loss)
        if self._processes.first:
            content = io.BytesIO()
            torch.save(state, content)
            try:
                write(self._path, content.getbuffer())
            except OSError as error:
                raise NotWritten(
                    f"the checkpoint of step {self.step} could not be written to {self._path.parent} "
                    f"({error.strerror}); the one before it, if there is one, is untouched"
                ) from error

    def resume(self) -> int:
        """Takes over from the checkpoint, if it is this run's; the step to continue from.

        Raises:
            BadCheckpoint: the file is damaged.
        """
        found = read(self._path) if self._processes.first else b""
        content = self._processes.from_first(found, self._device)
        state = _loaded(content, self._path, self._device) if content else {}
        if state.get("identity") != self._identity:
            return 0
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.step, self.loss = state["step"], state["loss"]
        if not self._processes.first:  # it is the sum of all processes
            self.loss.zero_()
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_weights = state["best_weights"]
        return self.step

    def _refuse_what_is_no_number(self, *losses: float) -> None:
        for loss in losses:
            if not isfinite(loss):
                raise CannotLearn(
                    f"the loss became {loss} in epoch {len(self.history) + 1} with a learning rate of "
                    f"{self._settings.learning_rate}: try a smaller one; nothing of it was kept"
                )

    def _state(self, loss: Tensor) -> dict[str, Any]:
        return {
            "identity": self._identity,
            **{name: part.state_dict() for name, part in self._parts.items()},
            "step": self.step,
            "loss": loss,
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": self.best_weights,
        }


def verified(checkpoint: Path, network: nn.Module) -> bool:
    """Whether the checkpoint on disk is finished and holds, bit for bit, the weights that `network` has."""
    import torch

    state = _loaded(read(checkpoint), checkpoint, "cpu")["best_weights"]
    own = network.state_dict()
    return state.keys() == own.keys() and all(torch.equal(state[name], own[name].cpu()) for name in own)


def write(path: Path, content: memoryview) -> None:
    """Puts `content` behind its digest into the file, which is the old one until it is the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = path.with_name(
        f".{path.name}.half"
    )  # a name of its own per path: what a killed run left is replaced
    try:
        with half.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path) -> bytes:
    """What `write` was given; nothing if there is no file.

    Raises:
        BadCheckpoint: the file is damaged.
    """
    if not path.exists():
        return b""
    whole = path.read_bytes()
    digest, content = whole[:DIGEST_BYTES], whole[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise BadCheckpoint(
            f"the checkpoint {path} is damaged ({len(whole):,} bytes): remove it, and training begins anew"
        )
    return content


def _loaded(content: bytes, path: Path, device: str) -> dict[str, Any]:
    import torch

    if not content:
        raise BadCheckpoint(f"there is no checkpoint at {path}")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state
