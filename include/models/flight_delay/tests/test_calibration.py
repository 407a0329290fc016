# ruff: noqa: S101
"""A probability of 0.3 means that three of ten such flights are late, give or take what a season changes."""

from __future__ import annotations

import numpy as np

from sevenfold.measures import evaluation


def test_late_flights_are_at_most_twice_and_at_least_half_the_expected(test):
    assert 0.5 < evaluation.ratio(test.label, test.probability, test.days).value < 2


def test_probabilities_lie_near_the_observed_rates(test):
    curve = evaluation.calibration_curve(test.label, test.probability, test.days)
    assert evaluation.calibration_error(curve) < 0.15


def test_flights_given_a_higher_risk_are_late_more_often(test):
    curve = evaluation.calibration_curve(test.label, test.probability, test.days, bins=5)
    rates = [bin.observed.value for bin in curve]
    assert rates[-1] > 2 * rates[0]
    assert np.polyfit(range(5), rates, 1)[0] > 0
