"""Makes a trained network's probabilities fit the stopping days, and leaves the order of rows as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.training.errors import CannotLearn
from sevenfold.training.examples import Examples
from sevenfold.training.loop import SCORING_BATCH
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

STEPS = 100
"""Of L-BFGS; a convex problem in one or two numbers needs about ten."""


def calibrated(network: nn.Module, stopping: Examples, settings: TrainingSettings) -> nn.Module:
    """The network with its logits scaled (and shifted), so that the loss on the stopping days is smallest.

    `temperature` scales only (Guo and others, 2017); `platt` shifts too, each class by itself (Platt, 1999),
    which weighted or sampled training needs. It is part of the network: it goes into the ONNX graph with it.

    Raises:
        CannotLearn: the labels of the stopping days are all equal, or no classes.
    """
    import torch
    from torch import nn

    class Calibrated(nn.Module):
        """scale * logits + shift."""

        scale: Tensor
        shift: Tensor

        def __init__(self, scale: Tensor, shift: Tensor) -> None:
            super().__init__()
            self.trained = network
            self.register_buffer("scale", scale)
            self.register_buffer("shift", shift)

        def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
            logits: Tensor = self.trained(numeric, categorical)
            return self.scale * logits + self.shift

    if settings.calibration == "none":
        return network
    task = stopping.task
    if not task.has_classes:
        raise CannotLearn(f"calibration: {settings.calibration} is for classes, and a {task.name} has none")
    if len(set(stopping.label.tolist())) < 2:
        raise CannotLearn("all labels of the stopping days are equal: nothing can be calibrated on them")
    logits, label = _logits(network, stopping), stopping.tensors()[2].double()
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shifts = settings.calibration == "platt"
    shift = torch.zeros(task.raw_shape, dtype=torch.float64, requires_grad=shifts)
    free = [value for value in (log_scale, shift) if value.requires_grad]
    optimizer = torch.optim.LBFGS(free, max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        mean = task.row_losses(log_scale.exp() * logits + shift, label).mean()
        mean.backward()  # type: ignore[no-untyped-call]
        return float(mean.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Calibrated(log_scale.detach().exp().float(), shift.detach().float()).eval()


def _logits(network: nn.Module, examples: Examples) -> Tensor:
    """The network's logits of all rows, in double precision."""
    import torch

    network.eval()
    numeric, categorical, _ = examples.tensors()
    with torch.no_grad():
        pieces = [
            network(numeric[i : i + SCORING_BATCH], categorical[i : i + SCORING_BATCH])
            for i in range(0, len(examples), SCORING_BATCH)
        ]
    return torch.cat(pieces).double()
