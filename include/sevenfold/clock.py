"""The time of a model's world. Reference data end one day; schedules and alarms go on, so they ask here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec, load_spec


class NoMoment(SevenfoldError):
    """A moment that is none, or lies outside of the data."""


class KeepsClock(Protocol):
    """The part of the store that remembers how far a player has come."""

    def get_clock(self, model: str) -> datetime | None: ...


def now(store: KeepsClock, model: str, wall: datetime | None = None) -> datetime:
    """The model's data time: what a player has reached, else the wall clock mapped into the data's years."""
    played = store.get_clock(model)
    return played or mapped(load_spec(model), wall or datetime.now(UTC))


def moment(spec: ModelSpec, given: str) -> datetime:
    """What a person means by a date or time: UTC, and within the data.

    Raises:
        NoMoment: it is none, or the data do not reach there.
    """
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise NoMoment(f"as_of is a date such as {spec.data.ends}, not {given!r}") from error
    found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    if not spec.data.starts < found.date() <= spec.data.ends:
        raise NoMoment(
            f"as_of {found:%Y-%m-%d} is outside the data of {spec.name}, "
            f"which reach from {spec.data.starts} to {spec.data.ends}"
        )
    return found


def mapped(spec: ModelSpec, wall: datetime) -> datetime:
    """The wall clock's moment in the last year in which the data have it; unchanged while data are live.

    29 February becomes 28 February in a year that has none.
    """
    wall = wall.astimezone(UTC)
    if wall.date() < spec.data.ends:
        return wall
    for year in range(spec.data.ends.year, spec.data.starts.year - 1, -1):
        moment = _in_year(wall, year)
        if spec.data.starts <= moment.date() < spec.data.ends:
            return moment
    ends = spec.data.ends
    return datetime(ends.year, ends.month, ends.day, tzinfo=UTC)


def _in_year(moment: datetime, year: int) -> datetime:
    try:
        return moment.replace(year=year)
    except ValueError:
        return moment.replace(year=year, day=28)
