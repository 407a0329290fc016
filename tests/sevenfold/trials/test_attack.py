"""The attack finds what hurts a model whose gradient is known, keeps its budget, leaves the rest alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sevenfold.trials.attack import Losses, Numbers, Surface, fgsm, gradient_sign, pgd, random_signs

BUDGETS = (0.05, 0.1, 0.2)
N = 300
RANDOM = np.random.default_rng(5)
WEIGHTS = np.array([2.0, -1.0, 0.0, 0.5], np.float32)
NUMBERS = (RANDOM.normal(size=(N, 4)) * [1, 10, 5, 0.1]).astype(np.float32)
NUMBERS[::7, 1] = np.nan
LABEL = (RANDOM.random(N) < 0.5).astype(np.float64)
SURFACE = Surface.of(NUMBERS, np.arange(N))


def linear(numbers: Numbers, of: NDArray[np.intp]) -> Losses:
    """Log loss of a logistic regression on standardised columns, NaN as zero."""
    logit = np.nan_to_num(numbers / SURFACE.spread) @ WEIGHTS
    return np.logaddexp(0, np.where(LABEL[of] > 0.5, -logit, logit)).astype(np.float64)


def wavy(numbers: Numbers, of: NDArray[np.intp]) -> Losses:
    """The same with ripples that no row average shows."""
    scaled = np.nan_to_num(numbers / SURFACE.spread)
    logit = scaled @ WEIGHTS + 0.5 * np.sin(15 * scaled).sum(axis=1)
    return np.logaddexp(0, np.where(LABEL[of] > 0.5, -logit, logit)).astype(np.float64)


def test_the_direction_is_that_of_the_gradient() -> None:
    found = gradient_sign(SURFACE, SURFACE.numeric, linear)
    away = np.where(LABEL > 0.5, -1, 1)[:, None] * np.sign(WEIGHTS)
    away = np.where(np.isnan(NUMBERS), 0, away)
    np.testing.assert_array_equal(found, away)


def test_of_a_linear_model_one_step_and_many_find_the_worst_point_there_is() -> None:
    by = 0.1 * np.where(LABEL > 0.5, -1, 1)[:, None] * np.sign(WEIGHTS)
    worst = linear(SURFACE.moved(by.astype(np.float32)), np.arange(N))
    np.testing.assert_allclose(fgsm(SURFACE, linear, [0.1])[0], worst, atol=1e-5)
    np.testing.assert_allclose(pgd(SURFACE, linear, [0.1])[0][0], worst, atol=1e-5)


def test_numbers_stay_within_budget_and_range_and_gaps_stay_gaps() -> None:
    low, high = np.nanmin(NUMBERS, axis=0), np.nanmax(NUMBERS, axis=0)
    for budget, (_, moved) in zip(BUDGETS, pgd(SURFACE, wavy, BUDGETS), strict=True):
        np.testing.assert_array_equal(np.isnan(moved), np.isnan(NUMBERS))
        assert (np.nan_to_num(np.abs(moved - NUMBERS) / SURFACE.spread) <= budget + 1e-4).all()
        assert (np.nan_to_num(moved, nan=0) >= np.minimum(low, 0) - 1e-4).all()
        known = ~np.isnan(moved)
        assert (np.where(known, moved, low) >= low).all()
        assert (np.where(known, moved, high) <= high).all()


def test_a_row_never_gets_better_and_a_larger_budget_hurts_more() -> None:
    clean, rows = wavy(NUMBERS, np.arange(N)), np.arange(N)
    before = clean
    for losses, moved in pgd(SURFACE, wavy, BUDGETS):
        assert (losses >= before - 1e-9).all()
        np.testing.assert_allclose(wavy(moved, rows), losses)
        before = losses
    assert before.mean() > clean.mean() + 0.3


def test_ripples_that_chance_hardly_meets_are_found() -> None:
    """At a tenth of a spread random signs do next to nothing, and the attack hurts the rippled model more."""
    clean = {loss: loss(NUMBERS, np.arange(N)).mean() for loss in (linear, wavy)}
    chance = random_signs(SURFACE, wavy, [0.1])[0].mean() - clean[wavy]
    hurt = {loss: pgd(SURFACE, loss, [0.1])[0][0].mean() - clean[loss] for loss in (linear, wavy)}
    assert chance < 0.1 * hurt[wavy]
    assert hurt[wavy] > 2 * hurt[linear]


@pytest.mark.parametrize("gap", ["all", "constant"])
def test_a_column_that_cannot_move_is_left_alone(gap: str) -> None:
    numbers = NUMBERS.copy()
    numbers[:, 2] = np.nan if gap == "all" else 3.0
    surface = Surface.of(numbers, np.arange(N))
    ((_, moved),) = pgd(surface, linear, [0.1])
    np.testing.assert_array_equal(moved[:, 2], numbers[:, 2])
