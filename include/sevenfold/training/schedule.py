"""The optimiser, and how its learning rate goes over the steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sevenfold.light_imports import without_compiler
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn


def optimiser(network: nn.Module, settings: TrainingSettings, steps: int) -> tuple[Any, Any]:
    """AdamW (Loshchilov and Hutter, 2019) and its schedule over `steps` steps in all.

    one_cycle rises and falls once (Smith and Topin, 2018), cosine falls from the start (Loshchilov and
    Hutter, 2017), constant stays.
    """
    import torch
    from torch.optim import lr_scheduler

    without_compiler()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    schedules: dict[str, Callable[[], Any]] = {
        "one_cycle": lambda: lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    }
    return optimizer, schedules[settings.schedule]()
