# ruff: noqa: S101
"""What must not matter does not matter."""

from __future__ import annotations

import numpy as np


def test_the_order_and_company_of_flights_do_not_matter(scorer, test):
    backwards = {name: values[::-1] for name, values in test.columns.items()}
    np.testing.assert_allclose(scorer.predict(backwards)[::-1], test.probability, atol=1e-6)
    alone = [scorer.predict({name: v[i : i + 1] for name, v in test.columns.items()})[0] for i in range(50)]
    np.testing.assert_allclose(alone, test.probability[:50], atol=1e-6)


def test_a_trace_of_measurement_noise_does_not_matter(changed, test):
    noisy = changed(
        wx_temp=test.columns["wx_temp"] + 0.1,
        wx_pressure=test.columns["wx_pressure"] + 0.1,
        distance=test.columns["distance"] + 1,
    )
    assert np.quantile(np.abs(noisy - test.probability), 0.99) < 0.05


def test_an_airline_that_nobody_has_seen_is_like_any_other(changed, test):
    strangers = changed(carrier="ZZ")
    assert abs(strangers.mean() - test.probability.mean()) < 0.15
