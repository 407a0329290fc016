"""What decides how a network is trained, besides its rows: the hyperparameters that training itself reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from sevenfold.training.errors import CannotLearn

CHOICES = {
    "schedule": ("one_cycle", "cosine", "constant"),
    "imbalance": ("none", "weighted", "sampled"),
    "calibration": ("none", "temperature", "platt"),
    "precision": ("float32", "bfloat16", "float16"),
}
AT_LEAST_ONE = ("epochs", "batch_size", "patience", "checkpoint_steps")


@dataclass(frozen=True)
class TrainingSettings:
    """A model lists in its model.yaml those that it wants to be able to change."""

    epochs: int = 8
    batch_size: int = 2048
    """Rows of a step, of all processes together."""
    learning_rate: float = 2e-3
    """The highest of the schedule."""
    weight_decay: float = 1e-4
    patience: int = 5
    """Epochs without a better stopping loss after which training ends."""
    schedule: str = "one_cycle"
    """How the learning rate goes: one_cycle, cosine or constant (see sevenfold.training.schedule)."""
    imbalance: str = "none"
    """For rare classes: `weighted` gives every class the same weight in the loss, `sampled` the same number
    of rows in an epoch. Either makes probabilities of another world: set calibration too."""
    calibration: str = "none"
    """After training, on the stopping days: `temperature` or `platt` (see sevenfold.training.calibration)."""
    precision: str = "float32"
    """Of the matrix products on a GPU: float32, bfloat16 or float16; on a CPU always float32."""
    compile: bool = False
    """Whether the network is compiled (torch.compile) where there is a GPU."""
    chunk_rows: int = 0
    """Rows in memory at a time; 0: all where they fit into the pod's memory, else as many as fit."""
    seed: int = 0
    checkpoint_steps: int = 100
    """Steps between checkpoints; one more is written after each epoch."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                said = f"{name} must be {', '.join(allowed[:-1])} or {allowed[-1]}"
                raise CannotLearn(f"{said}, not {getattr(self, name)!r}")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise CannotLearn(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (self.learning_rate > 0 and isfinite(self.learning_rate)):
            raise CannotLearn(f"learning_rate must be a number above 0, not {self.learning_rate}")
        if self.weight_decay < 0 or self.chunk_rows < 0:
            raise CannotLearn("weight_decay and chunk_rows must not be below 0")

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Any], seed: int = 0) -> TrainingSettings:
        """The settings among a model's hyperparameters; the others belong to its network.

        Raises:
            CannotLearn: one has a value that means nothing.
        """
        names = {field.name for field in fields(cls)} - {"seed", "checkpoint_steps"}
        return cls(seed=seed, **{name: hyperparameters[name] for name in names & set(hyperparameters)})
