# ruff: noqa: S101
"""Passengers of every airport and of every kind of airline are served, not only the average one."""

from __future__ import annotations

import pytest

from sevenfold.measures import evaluation

SMALLEST_SLICE = 500
"""Rows below which a slice proves nothing."""

SLICES = [
    *(("origin", airport) for airport in ("EWR", "JFK", "LGA")),
    *(("carrier_group", group) for group in ("major", "low_cost", "regional")),
]


@pytest.mark.parametrize(("column", "value"), SLICES)
def test_every_slice_is_served(test, column, value):
    inside = test.columns[column] == value
    if inside.sum() < SMALLEST_SLICE:
        pytest.skip(f"only {inside.sum()} flights with {column} {value}")
    label, probability, days = test.label[inside], test.probability[inside], test.days[inside]
    assert evaluation.auc(label, probability, days).value > 0.6
    assert 0.4 < evaluation.ratio(label, probability, days).value < 2.5
