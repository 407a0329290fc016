"""Scores agree with scikit-learn's; intervals cover the truth when the rows of a day go together."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.measures import evaluation

RANDOM = np.random.default_rng(7)
N = 3000
DAYS = np.repeat(np.arange(30), N // 30)
SCORE = RANDOM.random(N)
LABEL = (RANDOM.random(N) < SCORE).astype(float)
OTHER = np.clip(SCORE + RANDOM.normal(0, 0.2, N), 0.01, 0.99)


def test_log_loss_and_auc_are_scikit_learns() -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    assert evaluation.mean(evaluation.log_losses(LABEL, SCORE), DAYS).value == pytest.approx(
        log_loss(LABEL, SCORE)
    )
    tied = np.round(SCORE, 1)
    assert evaluation.auc(LABEL, tied, DAYS).value == pytest.approx(roc_auc_score(LABEL, tied))
    gained = evaluation.auc_difference(LABEL, SCORE, OTHER, DAYS)
    assert gained.value == pytest.approx(roc_auc_score(LABEL, SCORE) - roc_auc_score(LABEL, OTHER))


def test_certain_and_wrong_is_bad_but_finite() -> None:
    assert 15 < evaluation.log_losses(np.array([1.0]), np.array([0.0]))[0] < 17


def stormy(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 days of 100 rows; each day has a luck of its own, which the score does not know."""
    days = np.repeat(np.arange(20), 100)
    luck = np.repeat(random.normal(0, 1, 20), 100)
    score = random.normal(size=2000)
    label = (random.random(2000) < 1 / (1 + np.exp(-(score + luck)))).astype(float)
    return label, score, days


def test_intervals_by_day_cover_where_those_by_row_do_not() -> None:
    random = np.random.default_rng(1)
    by_day = by_row = auc = 0
    for _ in range(200):
        label, score, days = stormy(random)
        rate = evaluation.mean(label, days)
        rows = evaluation.mean(label, np.arange(len(label)))
        area = evaluation.auc(label, score, days)
        by_day += rate.low <= 0.5 <= rate.high
        by_row += rows.low <= 0.5 <= rows.high
        auc += area.low <= 0.7137 <= area.high  # the area of 200 such samples together
    assert by_day >= 180
    assert auc >= 180
    assert by_row < 100


def test_calibration_is_observed_over_expected_and_a_curve_around_the_diagonal() -> None:
    fair = evaluation.ratio(LABEL, SCORE, DAYS)
    assert fair.low < 1 < fair.high
    assert evaluation.ratio(LABEL, SCORE / 2, DAYS).low > 1.7
    curve = evaluation.calibration_curve(LABEL, SCORE, DAYS, bins=5)
    assert sum(bin.observed.n for bin in curve) == N
    assert (
        evaluation.calibration_error(curve)
        < 0.05
        < evaluation.calibration_error(evaluation.calibration_curve(LABEL, SCORE / 2, DAYS))
    )


def test_nothing_to_compare_is_no_number_and_no_error() -> None:
    alone = evaluation.auc(np.ones(5), SCORE[:5], DAYS[:5])
    assert np.isnan(alone.value)
    assert alone.limits == {"low": None, "high": None}
    one_day = evaluation.mean(SCORE[:50], np.zeros(50))
    assert one_day.value == pytest.approx(SCORE[:50].mean())
    assert one_day.difference_counts is None
    assert np.isnan(evaluation.ratio(LABEL, np.zeros(N), DAYS).value)
    assert np.isnan(evaluation.mean(np.array([]), np.array([])).value)


def test_a_difference_hands_the_gate_its_standard_error() -> None:
    gain = evaluation.mean(evaluation.log_losses(LABEL, OTHER) - evaluation.log_losses(LABEL, SCORE), DAYS)
    counts = gain.difference_counts
    assert counts is not None
    assert counts == {"mean_diff": gain.value, "se": gain.se, "clusters": 30.0}
    assert gain.low > 0
