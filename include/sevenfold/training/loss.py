"""What training makes small, row by row: the log loss of the task, rare classes weighted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.model.tasks import Task
from sevenfold.training.errors import CannotLearn
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor


def class_weights(
    task: Task, classes: dict[float, int], settings: TrainingSettings, device: str
) -> Tensor | None:
    """What a row counts, by its label [k]: the rarer the more, on average 1; None where all count the same.

    (imbalance: weighted. The weights are scikit-learn's "balanced", after King and Zeng, 2001.)

    Raises:
        CannotLearn: the labels of the task are no classes.
    """
    if settings.imbalance != "none" and not task.has_classes:
        raise CannotLearn(f"imbalance: {settings.imbalance} is for classes, and a {task.name} has none")
    if settings.imbalance != "weighted":
        return None
    import torch

    rows = sum(classes.values())
    weights = torch.zeros(int(max(classes)) + 1)
    for label, count in classes.items():
        weights[int(label)] = rows / (len(classes) * count)
    return weights.to(device)


def training_losses(task: Task, raw: Tensor, label: Tensor, weights: Tensor | None) -> Tensor:
    """The losses [n] of a batch as training counts them."""
    losses = task.row_losses(raw, label)
    return losses if weights is None else losses * weights[label.long()]
