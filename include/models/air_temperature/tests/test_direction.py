# ruff: noqa: S101
"""What makes the next hours warmer in the world makes them warmer for the model, on average."""

from __future__ import annotations

import numpy as np


def mean(prediction):
    return float(prediction[:, 0].mean())


def test_warmer_now_is_warmer_then(scorer, test):
    warmer = scorer.predict(test.columns | {"temp": test.columns["temp"] + 3})
    assert 1 < mean(warmer) - mean(test.prediction) < 4


def test_a_warmer_yesterday_is_not_colder(scorer, test):
    warmer = scorer.predict(test.columns | {"temp_18h_ago": test.columns["temp_18h_ago"] + 3})
    assert mean(warmer) > mean(test.prediction) - 0.1


def test_the_afternoon_is_warmer_than_the_night(test):
    utc = np.arctan2(test.columns["hour_sin"], test.columns["hour_cos"]) % (2 * np.pi) * 24 / (2 * np.pi)
    afternoon, night = (np.abs(utc - hour) < 2 for hour in (20, 10))  # 3 p.m. and 5 a.m. in New York
    assert mean(test.prediction[afternoon]) > mean(test.prediction[night]) + 2
