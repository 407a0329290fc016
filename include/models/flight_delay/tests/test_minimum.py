# ruff: noqa: S101
"""The least that anybody can expect: an answer to every flight, and knowing a good day from a bad one."""

from __future__ import annotations

import numpy as np

from sevenfold.measures import evaluation

CALM = {
    "origin": "LGA",
    "carrier": "DL",
    "dest": "ATL",
    "dow": "Sat",
    "hour": "07",
    "sched_elapsed": 150,
    "distance": 762,
    "seats": 150,
    "plane_age": 10,
    "tod_sin": 0.966,
    "tod_cos": -0.259,
    "org_sched_1h": 15,
    "wx_temp": 50,
    "wx_dewp": 35,
    "wx_humid": 56,
    "wx_wind_speed": 6,
    "wx_wind_gust": 6,
    "wx_precip": 0,
    "wx_pressure": 1022,
    "wx_visib": 10,
    "wd_sin": 0,
    "wd_cos": 1,
    "org2h_mean": -3,
    "org2h_n": 25,
    "oc3h_mean": -3,
    "oc3h_n": 8,
    "dst6h_mean": -8,
    "dst6h_n": 5,
    "tail24h_mean": -10,
    "tail24h_n": 1,
    "org_overdue": 0,
}
STORM = CALM | {
    "dow": "Thu",
    "hour": "19",
    "tod_sin": -0.966,
    "tod_cos": 0.259,
    "wx_visib": 2,
    "wx_precip": 0.2,
    "org2h_mean": 80,
    "oc3h_mean": 85,
    "dst6h_mean": 60,
    "tail24h_mean": 90,
    "org_overdue": 45,
}


def test_every_flight_of_the_window_gets_a_probability(test):
    assert np.isfinite(test.probability).all()
    assert ((test.probability >= 0) & (test.probability <= 1)).all()


def test_a_calm_morning_is_a_small_risk_and_a_stormy_evening_a_large_one(scorer):
    calm, storm = (
        float(scorer.predict({name: [value] for name, value in flight.items()})[0])
        for flight in (CALM, STORM)
    )
    assert calm < 0.25
    assert storm > 0.5


def test_a_flight_about_which_nothing_is_known_gets_a_probability(scorer):
    encoder = scorer.encoder
    nothing = {name: [None] for name in encoder.numeric} | {name: ["?"] for name in encoder.categorical}
    assert 0 < scorer.predict(nothing)[0] < 1


def test_it_ranks_flights_better_than_chance(test):
    assert evaluation.auc(test.label, test.probability, test.days).low > 0.6


def test_it_knows_more_than_the_late_rate_of_its_own_window(test):
    rate = np.full(len(test), test.label.mean())
    gain = evaluation.log_losses(test.label, rate) - evaluation.log_losses(test.label, test.probability)
    assert gain.mean() > 0
