"""What is told of a training run: its epochs, and how it went in all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean losses, and the rows trained on a second, by all processes together."""

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


@dataclass(frozen=True)
class Progress:
    """Where a run is, told about once a second: since the report before this one."""

    step: int
    steps: int
    """In all, if patience does not end it before."""
    epoch: int
    rows_per_second: float
    data_share: float
    """Share of the time that the loop waited for its next batch."""
