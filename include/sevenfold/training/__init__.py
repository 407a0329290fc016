"""Training a network: plain PyTorch, model-independent, on one process or many, in memory or streamed.

`loop.fit` is the loop, on one screen. What it stands on has a module each: the rows (examples), their order
(batches), the loss, the learning rate (schedule), the processor (hardware), the processes (processes), and
the checkpoint. Killed at any moment and started again, it ends bit for bit where it would have ended.
"""

from sevenfold.training.checkpoint import BadCheckpoint, verified
from sevenfold.training.errors import CannotLearn
from sevenfold.training.examples import Examples
from sevenfold.training.loop import fit, mean_loss
from sevenfold.training.record import Epoch, Fitted
from sevenfold.training.settings import TrainingSettings

__all__ = [
    "BadCheckpoint",
    "CannotLearn",
    "Epoch",
    "Examples",
    "Fitted",
    "TrainingSettings",
    "fit",
    "mean_loss",
    "verified",
]
