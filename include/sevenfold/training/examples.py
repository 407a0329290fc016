"""Encoded rows with their labels, in memory: what a network learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.tabular import Encoder
from sevenfold.training.errors import CannotLearn

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = tuple[Tensor, Tensor, Tensor]


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


def check(examples: Examples, name: str) -> None:
    """Refuses rows from which nothing can be learned, or learned from by mistake.

    Raises:
        CannotLearn: there are none, or a label is neither 0 nor 1.
    """
    if not len(examples):
        raise CannotLearn(f"the {name} window has no labelled rows")
    values = np.unique(examples.label)
    if not np.isin(values, (0, 1)).all():
        raise CannotLearn(f"the labels of the {name} window must be 0 or 1, but {values[0]} is among them")


def refuse_equal_labels(classes: dict[float, int]) -> None:
    """Refuses training labels that are all equal: there is nothing to tell apart."""
    if len(classes) == 1:
        ((label, rows),) = classes.items()
        raise CannotLearn(
            f"all {rows:,} labels of the training window are {label:.0f}: there is nothing to tell apart"
        )
