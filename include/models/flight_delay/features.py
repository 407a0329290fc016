"""The features of a flight, each known at its scheduled departure.

A feature of the recent past uses an event only if it happened at or before that moment, and never the
flight's own. Times are whole minutes since 1970 (UTC), as int64; what never happened has `NEVER`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER = np.int64(1) << 40
"""Later than every minute of every year, and small enough to be shifted."""

HOUR = 60


@dataclass(frozen=True)
class Flights:
    """The columns of the flights that the recent past is computed from, each of length n."""

    departs: Ints
    """Scheduled departure: the moment of the prediction."""
    departed: Ints
    arrived: Ints
    departure_delay: Floats
    arrival_delay: Floats
    origin: Ints
    carrier: Ints
    destination: Ints
    aircraft: Ints
    """Codes, 0 upward."""


def recent(flights: Flights) -> dict[str, Floats]:
    """Mean delays and counts of what happened shortly before each flight, by feature name."""
    departures = np.clip(flights.departure_delay, -15, 180)
    arrivals = np.clip(flights.arrival_delay, -60, 180)
    route = flights.origin * (flights.carrier.max() + 1) + flights.carrier
    now = flights.departs
    features: dict[str, Floats] = {}
    for name, group, happened, delay, hours in (
        ("org2h", flights.origin, flights.departed, departures, 2),
        ("oc3h", route, flights.departed, departures, 3),
        ("dst6h", flights.destination, flights.arrived, arrivals, 6),
        ("tail24h", flights.aircraft, flights.arrived, arrivals, 24),
    ):
        mean, count = mean_before(now, group, happened, delay, hours * HOUR)
        features[f"{name}_mean"], features[f"{name}_n"] = mean, count
    features["org_overdue"] = overdue(now, flights.origin, flights.departed)
    features["org_sched_1h"] = same_hour(now, flights.origin)
    return features


def newest(flights: Flights) -> Ints:
    """When the newest event happened that `recent` has in a mean for each flight, at the latest; `departs`
    where there is none, for that nothing happened is known at the moment itself."""
    now = flights.departs
    found = np.full(len(now), -1)
    for group, happened in (
        (flights.origin, flights.departed),
        (flights.destination, flights.arrived),
        (flights.aircraft, flights.arrived),
    ):
        known = happened < NEVER
        events = np.sort(_place(group[known], happened[known]))
        last = np.searchsorted(events, _place(group, now), "right") - 1
        of_group = np.where(last >= 0, events[last] - _place(group, np.int64(0)), -1)
        found = np.maximum(found, of_group)
    return np.where(found >= 0, found, now)


def mean_before(now: Ints, group: Ints, happened: Ints, value: Floats, minutes: int) -> tuple[Floats, Floats]:
    """Mean of `value` over the other events of the same group in [now - minutes, now], and their number.

    Row i of all arrays (length n) is one flight: it asks at `now[i]`, and its own event is `value[i]` at
    `happened[i]`. No event: mean NaN, number 0.
    """
    known = (happened < NEVER) & ~np.isnan(value)
    order = np.argsort(_place(group[known], happened[known]), kind="stable")
    events = _place(group[known], happened[known])[order]
    total = np.concatenate([[0.0], np.cumsum(value[known][order])])
    after = np.searchsorted(events, _place(group, now), "right")
    before = np.searchsorted(events, _place(group, now - minutes), "left")
    own = known & (happened <= now) & (happened >= now - minutes)
    count = (after - before - own).astype(np.float64)
    # Delays are whole minutes, so these sums are exact and a blanked future changes no bit of the past.
    summed = total[after] - total[before] - np.where(own, value, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, summed / count, np.nan), count


def overdue(now: Ints, origin: Ints, departed: Ints) -> Floats:
    """Flights of the origin that were due out 3 hours to 5 minutes ago and have not departed at `now`.

    A flight is overdue from 5 minutes after its schedule until it departs, or for 3 hours if it does not: so
    the number at a moment is the number of such spells that have begun less the number that have ended.
    """
    begins = now + 5
    ends = np.minimum(departed, now + 3 * HOUR + 1)
    late = ends > begins
    begun = np.sort(_place(origin[late], begins[late]))
    ended = np.sort(_place(origin[late], ends[late]))
    here = _place(origin, now)
    return (np.searchsorted(begun, here, "right") - np.searchsorted(ended, here, "right")).astype(np.float64)


def same_hour(departs: Ints, origin: Ints) -> Floats:
    """How many flights the origin schedules in the hour of each flight, itself included."""
    _, where, count = np.unique(_place(origin, departs // HOUR), return_inverse=True, return_counts=True)
    return count[where].astype(np.float64)


def circle(angle: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine of an angle in turns (1 is a full circle), so that its end meets its beginning."""
    return np.sin(2 * np.pi * angle), np.cos(2 * np.pi * angle)


def _place(group: Ints, minute: Ints) -> Ints:
    """One sortable number for (group, minute): groups lie one behind the other on a single time line."""
    return group * (2 * NEVER) + minute
