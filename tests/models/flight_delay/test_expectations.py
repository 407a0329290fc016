"""The expectations let real flights pass and find what is broken, naming the rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.flights import flights

from activities.testing.validate_data import raw
from sevenfold.data.data_quality import KINDS, Findings, validate
from sevenfold.model.spec import load_spec

SPEC = load_spec("flight_delay")
WINDOW = (datetime(2013, 7, 25, tzinfo=UTC), datetime(2013, 8, 1, tzinfo=UTC))
AS_OF = datetime(2013, 8, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def real() -> tuple[Any, list[str]]:
    return raw(flights(), WINDOW, AS_OF)


def found(frame: Any, columns: list[str]) -> Findings:
    return validate("flights", frame, SPEC.entry("expectations")(*WINDOW, columns))


def test_real_flights_pass_and_the_odd_one_is_a_warning(real: tuple[Any, list[str]]) -> None:
    result = found(*real)
    assert result.critical == ()
    (warning,) = result.failures
    assert (warning.column, warning.rows, warning.ids) == ("distance", 1, ("20130727-EWR-US1632",))
    assert len(result.all) > 70
    assert all(result.of_kind(kind) for kind in KINDS), "a kind of check that nobody makes"


def _drop_a_day(frame: Any) -> Any:
    return frame[frame["day"] != frame["day"].max()]


FAULTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("a row twice", lambda frame: frame.iloc[[*range(len(frame)), 5]], "id"),
    ("another airport", lambda frame: frame.assign(origin=frame["origin"].replace("LGA", "PHL")), "origin"),
    (
        "degrees Kelvin",
        lambda frame: frame.assign(wx_temp=(frame["wx_temp"] + 255).astype("float32")),
        "wx_temp",
    ),
    ("numbers as text", lambda frame: frame.assign(seats=frame["seats"].astype(str)), "seats"),
    ("no weather", lambda frame: frame.assign(wx_wind_speed=float("nan")), "wx_wind_speed"),
    ("a column too few", lambda frame: frame.drop(columns="dest"), "dest"),
    ("a column too many", lambda frame: frame.assign(arr_delay=1), "the table"),
    ("the last day missing", _drop_a_day, "time"),
    ("an airline that is not listed", lambda frame: frame.assign(carrier="ZZ"), "carrier"),
    ("an airport that is not listed", lambda frame: frame.assign(dest="QQQ"), "dest"),
    ("labels that are all late", lambda frame: frame.assign(label=1), "label"),
]


@pytest.mark.parametrize(("fault", "spoil", "column"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_what_is_broken_is_found(
    real: tuple[Any, list[str]], fault: str, spoil: Callable[[Any], Any], column: str
) -> None:
    frame, columns = real
    assert column in {failure.column for failure in found(spoil(frame), columns).critical}
