# ruff: noqa: S101
"""A spread of one degree means misses of one degree, give or take what a month of fronts changes."""

from __future__ import annotations

import numpy as np


def test_eight_of_ten_lie_within_two_spreads(test):
    miss = np.abs(test.label - test.prediction[:, 0]) / test.prediction[:, 1]
    assert (miss < 2).mean() > 0.8


def test_squared_errors_are_of_the_size_that_was_expected(test, spec):
    assert 0.2 < spec.task.observed_over_expected(test.label, test.prediction, test.days).value < 4
