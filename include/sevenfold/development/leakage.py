"""How much one column alone says about the label: one that says nearly all of it was filled in afterwards.

The measure lies between 0 (nothing) and 1 (the column orders the rows as their labels do). Of labels with few
different values it is |2 AUC - 1|, Somers' D, of the class that the column tells apart best; of numbers it
is Spearman's rank correlation. A missing value counts as a value of its own, below all others, for a gap can
give the label away too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_CLASSES = 20
"""Labels of more different values are numbers."""
FEWEST = 20
"""Rows of a class, and of all the others, below which chance alone may tell them apart."""


@dataclass(frozen=True)
class Association:
    """What one column alone says about the label, between 0 and 1."""

    column: str
    strength: float


def associations(columns: dict[str, NDArray[Any]], label: NDArray[Any]) -> list[Association]:
    """Every column's association with the label [n], strongest first; columns of numbers or of texts."""
    targets = _targets(np.asarray(label, np.float64))
    found = [
        Association(name, max((_strength(values, target) for target in targets), default=0.0))
        for name, values in columns.items()
    ]
    return sorted(found, key=lambda one: -one.strength)


def _targets(label: Floats) -> list[Floats]:
    """What a column may tell: each class against the others, or the number itself."""
    values, counts = np.unique(label, return_counts=True)
    if len(values) > MOST_CLASSES:
        return [label]
    large = [
        value for value, count in zip(values, counts, strict=True) if FEWEST <= count <= len(label) - FEWEST
    ]
    return [(label == value).astype(np.float64) for value in large]


def _strength(values: NDArray[Any], target: Floats) -> float:
    ranked = ranks(_numbers(values, target))
    if len(np.unique(target)) > 2:
        spread = np.std(ranked) * np.std(of := ranks(target))
        return float(abs(np.mean((ranked - ranked.mean()) * (of - of.mean()))) / spread) if spread else 0.0
    positive = target > 0.5
    ones, n = positive.sum(), len(target)
    area = (ranked[positive].sum() - ones * (ones + 1) / 2) / (ones * (n - ones))
    return float(abs(2 * area - 1))


def _numbers(values: NDArray[Any], target: Floats) -> Floats:
    """Numbers as they are, texts as the mean target that their category has in the other half of the rows."""
    if values.dtype.kind in "fiub":
        return np.nan_to_num(values.astype(np.float64), nan=-np.inf)
    _, code = np.unique(values.astype(str), return_inverse=True)
    half = np.arange(len(code)) % 2
    encoded = np.empty(len(code))
    for own, other in ((0, 1), (1, 0)):
        there = half == other
        count = np.bincount(code[there], minlength=code.max() + 1)
        total = np.bincount(code[there], weights=target[there], minlength=code.max() + 1)
        mean = (total + target.mean()) / (count + 1)  # a rare category is like all rows
        encoded[half == own] = mean[code[half == own]]
    return encoded


def ranks(values: Floats) -> Floats:
    """Ranks from 1, ties at their mean."""
    _, where, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[where])
