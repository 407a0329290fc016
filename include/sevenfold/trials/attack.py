"""Changes of a row's numbers that hurt a model most, within a budget; found by asking its artefact alone.

A step follows the sign of the loss's gradient (FGSM; Goodfellow, Shlens and Szegedy, 2015); several steps,
each projected onto the budget, are the stronger attack (PGD; Madry et al., 2018). The gradient is taken by
central differences (ZOO; Chen et al., 2017): of the file that is served, whatever made it, with no framework
beside ONNX Runtime and no second copy of the weights that would have to be kept, signed and trusted. A row of
a table has few numbers, so this costs two answers a column.

What a budget means: each known number may move by that share of its column's standard deviation, all at once,
and not out of the range that the column really has. Missing values stay missing and categories stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
Losses = NDArray[np.float64]
LossOf = Callable[[Numbers, NDArray[np.intp]], Losses]
"""Loss of each of m rows: their numbers [m, N], and which row of the sample each is a copy of [m]."""

STEPS = 4
PROBE = 0.01
"""Central differences look so far to both sides, in spreads: beyond float32's noise, within any curvature."""


@dataclass(frozen=True)
class Surface:
    """The rows under attack, numeric [n, N] with NaN for missing; spread, lowest, highest of each column."""

    numeric: Numbers
    spread: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, numeric: Numbers, sample: NDArray[np.intp]) -> Surface:
        """The rows `sample` of all rows `numeric`, which say what spread and range are."""
        known = np.isfinite(numeric)
        values = np.where(known, numeric, 0).astype(np.float64)
        count = np.maximum(known.sum(axis=0), 1)
        mean = values.sum(axis=0) / count
        spread = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / count)
        low = np.where(known, numeric, np.inf).min(axis=0, initial=np.inf)
        high = np.where(known, numeric, -np.inf).max(axis=0, initial=-np.inf)
        return cls(numeric[sample], *(part.astype(np.float32) for part in (spread, low, high)))

    def moved(self, by: Numbers) -> Numbers:
        """The rows with each number moved by `by` [n, N] spreads, inside the column's range."""
        return np.clip(self.numeric + by * self.spread, self.low, self.high)  # NaN stays NaN


def gradient_sign(surface: Surface, at: Numbers, loss: LossOf) -> Numbers:
    """Direction [n, N] of -1, 0 or 1 in which each row's loss grows, at the moved rows `at` [n, N]."""
    n = len(at)
    direction = np.zeros_like(at)
    for column in np.flatnonzero(surface.spread > 0):
        rows = np.arange(n)[np.isfinite(at[:, column])]
        if not len(rows):
            continue
        step = PROBE * surface.spread[column]
        up, down = at[rows].copy(), at[rows].copy()
        up[:, column] += step
        down[:, column] -= step
        both = loss(np.concatenate([up, down]), np.concatenate([rows, rows]))
        direction[rows, column] = np.sign(both[: len(rows)] - both[len(rows) :])
    return direction


def fgsm(surface: Surface, loss: LossOf, budgets: Sequence[float]) -> list[Losses]:
    """Loss of each row after one step of each budget along the sign of the gradient."""
    direction, rows = gradient_sign(surface, surface.numeric, loss), np.arange(len(surface.numeric))
    return [loss(surface.moved(budget * direction), rows) for budget in budgets]


def random_signs(surface: Surface, loss: LossOf, budgets: Sequence[float], seed: int = 0) -> list[Losses]:
    """Loss of each row after a step of each budget in a random direction: what noise of that size does."""
    signs = np.random.default_rng(seed).choice((-1, 1), size=surface.numeric.shape).astype(np.float32)
    rows = np.arange(len(surface.numeric))
    return [loss(surface.moved(budget * signs), rows) for budget in budgets]


def pgd(
    surface: Surface, loss: LossOf, budgets: Sequence[float], steps: int = STEPS
) -> list[tuple[Losses, Numbers]]:
    """The largest loss found for each row within each budget, and the numbers [n, N] that cause it.

    Budgets ascend: a larger one starts from what the smaller one found, so that a row's loss never falls.
    """
    rows = np.arange(len(surface.numeric))
    worst_by = np.zeros_like(surface.numeric)
    worst = loss(surface.numeric, rows)
    found: list[tuple[Losses, Numbers]] = []
    for budget in budgets:
        by = worst_by.copy()
        for _ in range(steps):
            direction = gradient_sign(surface, surface.moved(by), loss)
            by = np.clip(by + 2.5 * budget / steps * direction, -budget, budget)
            now = loss(surface.moved(by), rows)
            better = now > worst
            worst, worst_by = np.where(better, now, worst), np.where(better[:, None], by, worst_by)
        found.append((worst, surface.moved(worst_by)))
    return found
