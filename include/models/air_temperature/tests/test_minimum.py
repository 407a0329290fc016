# ruff: noqa: S101
"""The least that anybody can expect: an answer to every report, better than that nothing changes."""

from __future__ import annotations

import numpy as np
import pytest


def test_every_report_gets_a_temperature_and_a_spread(test):
    assert test.prediction.shape == (len(test), 2)
    assert np.isfinite(test.prediction).all()
    assert (test.prediction[:, 1] > 0).all()
    assert (np.abs(test.prediction[:, 0] - test.columns["temp"]) < 25).all()


def test_it_is_nearer_than_the_present_temperature(test):
    known = np.isfinite(test.columns["temp"])
    label, now, mean = test.label[known], test.columns["temp"][known], test.prediction[known, 0]
    assert np.abs(label - mean).mean() < 0.9 * np.abs(label - now).mean()


def test_it_knows_more_than_the_mean_of_its_own_window(test, spec):
    task = spec.task
    constant = np.broadcast_to(task.constant(test.label), test.prediction.shape)
    gain = task.losses(test.label, constant) - task.losses(test.label, test.prediction)
    assert gain.mean() > 0


def test_nine_of_ten_lie_within_two_spreads(test):
    miss = np.abs(test.label - test.prediction[:, 0]) / test.prediction[:, 1]
    assert (miss < 2).mean() > 0.8


@pytest.mark.parametrize("airport", ["EWR", "JFK", "LGA"])
def test_every_airport_is_served(test, airport):
    inside = test.columns["airport"] == airport
    assert inside.sum() > 200
    assert np.abs(test.label[inside] - test.prediction[inside, 0]).mean() < 3


def test_the_order_and_company_of_reports_do_not_matter(scorer, test):
    backwards = {name: values[::-1] for name, values in test.columns.items()}
    np.testing.assert_allclose(scorer.predict(backwards)[::-1], test.prediction, rtol=1e-4, atol=1e-4)


def test_a_station_that_says_nothing_gets_a_wide_answer(scorer, test):
    encoder = scorer.encoder
    nothing = {name: [None] for name in encoder.numeric} | {name: ["?"] for name in encoder.categorical}
    assert np.isfinite(scorer.predict(nothing)).all()


def test_a_trace_of_measurement_noise_does_not_matter(scorer, test):
    noisy = test.columns | {name: test.columns[name] + 0.1 for name in ("temp", "pressure", "wind_speed")}
    assert np.abs(scorer.predict(noisy)[:, 0] - test.prediction[:, 0]).max() < 1.5
