"""Any date has a place in the data's year; a player's time comes first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.toy import spec_in

from sevenfold.clock import mapped, now
from sevenfold.model.spec import load_spec


def at(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


class Kept:
    """A store that remembers one time."""

    def __init__(self, time: datetime | None) -> None:
        self.time = time

    def get_clock(self, model: str) -> datetime | None:
        return self.time


@pytest.mark.parametrize(
    ("wall", "data"),
    [
        (at(2026, 11, 23, 17), at(2013, 11, 23, 17)),
        (at(2028, 2, 29), at(2013, 2, 28)),
        (at(2013, 6, 1), at(2013, 6, 1)),
        (at(2012, 6, 1), at(2012, 6, 1)),
    ],
)
def test_the_wall_clock_is_mapped_into_the_year(wall: datetime, data: datetime) -> None:
    assert mapped(load_spec("flight_delay"), wall) == data


def test_a_date_that_the_data_never_reach_is_their_end(tmp_path: Path) -> None:
    assert mapped(spec_in(tmp_path), at(2026, 7, 1)) == at(2020, 3, 1)


def test_the_player_comes_first() -> None:
    assert now(Kept(at(2013, 7, 4)), "flight_delay", at(2026, 1, 1)) == at(2013, 7, 4)
    assert now(Kept(None), "flight_delay", at(2026, 1, 1)) == at(2013, 1, 1)
