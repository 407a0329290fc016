# ruff: noqa: S101
"""What makes flights late in the world makes them late for the model, on average over all flights."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("org_overdue", 10),
        ("org2h_mean", 30),
        ("oc3h_mean", 30),
        ("tail24h_mean", 60),
    ],
)
def test_more_trouble_around_is_not_less_risk(changed, test, column, more):
    assert changed(**{column: test.columns[column] + more}).mean() >= test.probability.mean()


def test_no_trouble_anywhere_is_less_risk(changed, test):
    quiet = changed(org_overdue=0, org2h_mean=np.minimum(test.columns["org2h_mean"], 0))
    assert quiet.mean() < test.probability.mean()
