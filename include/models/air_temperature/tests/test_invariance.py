# ruff: noqa: S101
"""What must not matter does not matter."""

from __future__ import annotations

import numpy as np


def test_the_order_and_company_of_reports_do_not_matter(scorer, test):
    backwards = {name: values[::-1] for name, values in test.columns.items()}
    np.testing.assert_allclose(scorer.predict(backwards)[::-1], test.prediction, rtol=1e-4, atol=1e-4)


def test_a_trace_of_measurement_noise_does_not_matter(scorer, test):
    noisy = test.columns | {name: test.columns[name] + 0.1 for name in ("temp", "pressure", "wind_speed")}
    assert np.abs(scorer.predict(noisy)[:, 0] - test.prediction[:, 0]).max() < 1.5
