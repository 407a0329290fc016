"""The year's flights, encoded."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.flights import flights

from sevenfold.data.tabular import Encoder
from sevenfold.model.spec import load_spec
from sevenfold.training import Examples

HYPERPARAMETERS = load_spec("flight_delay").defaults


def all_flights() -> tuple[Examples, list[int]]:
    """All rows with a label, and the number of codes of each categorical column."""
    spec, data = load_spec("flight_delay"), flights()
    year = datetime(2013, 1, 2, tzinfo=UTC), datetime(2013, 12, 30, tzinfo=UTC)
    table = data.labelled(*year, None, spec.columns)
    encoder = Encoder.fit(table, spec.name, spec.numeric, spec.categorical, spec.task)
    return Examples.of(table, encoder), encoder.cardinalities
