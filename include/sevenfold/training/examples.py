"""Encoded rows with their labels, in memory: what a network learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.data.tabular import Encoder
from sevenfold.model.tasks import BINARY, Task
from sevenfold.training.errors import CannotLearn

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Examples:
    """Encoded rows with their labels: numeric [n, N], categorical [n, C], label [n] as the task has it."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.int64]
    label: NDArray[np.float32]
    task: Task = BINARY

    @classmethod
    def of(cls, rows: Any, encoder: Encoder) -> Examples:
        """Rows with a column `label`, encoded."""
        return cls(*encoder.encode(rows), np.asarray(rows["label"], np.float32), encoder.task)

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


def check(examples: Examples, name: str) -> None:
    """Refuses rows from which nothing can be learned, or learned from by mistake.

    Raises:
        CannotLearn: there are none, or a label is none of the task.
    """
    if not len(examples):
        raise CannotLearn(f"the {name} window has no labelled rows")
    if complaint := examples.task.complaint(examples.label):
        raise CannotLearn(f"the labels of the {name} window {complaint}")


def classes(examples: Examples) -> dict[float, int]:
    """How many rows each label has; of labels that are no classes, the lowest and all the others."""
    if not examples.task.has_classes:
        low, high = float(examples.label.min()), float(examples.label.max())
        lowest = int((examples.label == low).sum())
        return {low: lowest} | ({high: len(examples) - lowest} if high > low else {})
    values, counts = np.unique(examples.label, return_counts=True)
    return {float(value): int(count) for value, count in zip(values, counts, strict=True)}


def refuse_hopeless_labels(task: Task, labels: dict[float, int]) -> None:
    """Refuses training labels that are all equal, or lack a class: there is nothing to tell apart."""
    if hopeless := task.hopeless(np.array(sorted(labels))):
        rows = sum(labels.values())
        raise CannotLearn(f"all {rows:,} labels of the training window {hopeless}")
