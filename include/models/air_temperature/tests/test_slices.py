# ruff: noqa: S101
"""Every airport is served: at none of them are the crews called in by a coin."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("airport", ["EWR", "JFK", "LGA"])
def test_every_airport_is_served(test, airport):
    inside = test.columns["airport"] == airport
    assert inside.sum() > 200
    assert np.abs(test.label[inside] - test.prediction[inside, 0]).mean() < 3
