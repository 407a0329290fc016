"""Weeks with fixed names: seven days each, counted from the first day of a model's data.

The same moment falls into the same week whoever asks and whenever, so an alert for a week is raised once.
Counting from the data's first day, and not from Monday, makes the weeks of a training window whole ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

DAY = timedelta(days=1)
LENGTH = timedelta(days=7)


@dataclass(frozen=True, order=True)
class Week:
    """Seven days from midnight UTC of the first to midnight after the last."""

    start: datetime

    @property
    def end(self) -> datetime:
        """The first moment after the week."""
        return self.start + LENGTH

    @property
    def key(self) -> str:
        """Its name in alerts and measurements: first and last day, 2013-06-18/2013-06-24."""
        return f"{self.start:%Y-%m-%d}/{self.end - DAY:%Y-%m-%d}"

    @property
    def last(self) -> str:
        """Its last day in words: 24 June 2013."""
        day = self.end - DAY
        return f"{day.day} {day:%B %Y}"

    def __str__(self) -> str:
        """In words: 18 to 24 June 2013."""
        last = self.end - DAY
        first = f"{self.start.day}"
        if self.start.month != last.month:
            first += f" {self.start:%B}"
        if self.start.year != last.year:
            first += f" {self.start.year}"
        return f"{first} to {self.last}"

    def follows(self, other: Week) -> bool:
        """Whether this is the very next week after `other`."""
        return other.end == self.start


def of_key(key: str) -> Week:
    """The week whose name is `key`."""
    return Week(midnight(date.fromisoformat(key.partition("/")[0])))


def complete(anchor: date, start: datetime, end: datetime) -> list[Week]:
    """The weeks that lie wholly within [start, end), oldest first; one of them would begin on `anchor`."""
    zero = midnight(anchor)
    first = -((zero - start.astimezone(UTC)) // LENGTH)
    found = []
    week = Week(zero + first * LENGTH)
    while week.end <= end:
        found.append(week)
        week = Week(week.end)
    return found


def within(rows: pa.Table, week: Week) -> pa.Table:
    """The rows whose `time` lies in the week."""
    times = rows["time"]
    return rows.filter(
        pc.and_(pc.greater_equal(times, _moment(week.start)), pc.less(times, _moment(week.end)))
    )


def midnight(day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(value: datetime) -> pa.Scalar:
    return pa.scalar(value, pa.timestamp("us", "UTC"))
