"""What training makes small, row by row. The one place where the loss of a task stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor


def row_losses(logits: Tensor, label: Tensor) -> Tensor:
    """The log loss [n] of each row, of logits [n] and labels [n] of 0 and 1."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits, label, reduction="none")


def class_weights(classes: dict[float, int], settings: TrainingSettings, device: str) -> Tensor | None:
    """What a row counts, by its label [k]: the rarer the more, on average 1; None where all count the same.

    (imbalance: weighted. The weights are scikit-learn's "balanced", after King and Zeng, 2001.)
    """
    if settings.imbalance != "weighted":
        return None
    import torch

    rows = sum(classes.values())
    weights = torch.zeros(int(max(classes)) + 1)
    for label, count in classes.items():
        weights[int(label)] = rows / (len(classes) * count)
    return weights.to(device)


def training_losses(logits: Tensor, label: Tensor, weights: Tensor | None) -> Tensor:
    """The losses [n] of a batch as training counts them."""
    losses = row_losses(logits, label)
    return losses if weights is None else losses * weights[label.long()]
