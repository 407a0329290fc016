# ruff: noqa: S101
"""The least that anybody can expect: an answer to every report, better than that nothing changes."""

from __future__ import annotations

import numpy as np


def test_every_report_gets_a_temperature_and_a_spread(test):
    assert test.prediction.shape == (len(test), 2)
    assert np.isfinite(test.prediction).all()
    assert (test.prediction[:, 1] > 0).all()
    known = np.isfinite(test.columns["temp"])
    assert (np.abs(test.prediction[known, 0] - test.columns["temp"][known]) < 25).all()


def test_it_is_nearer_than_the_present_temperature(test):
    known = np.isfinite(test.columns["temp"])
    label, now, mean = test.label[known], test.columns["temp"][known], test.prediction[known, 0]
    assert np.abs(label - mean).mean() < 0.9 * np.abs(label - now).mean()


def test_it_knows_more_than_the_mean_of_its_own_window(test, spec):
    task = spec.task
    constant = np.broadcast_to(task.constant(test.label), test.prediction.shape)
    gain = task.losses(test.label, constant) - task.losses(test.label, test.prediction)
    assert gain.mean() > 0


def test_a_station_that_says_nothing_gets_an_answer(scorer):
    encoder = scorer.encoder
    nothing = {name: [None] for name in encoder.numeric} | {name: ["?"] for name in encoder.categorical}
    assert np.isfinite(scorer.predict(nothing)).all()
