"""What rows and labels of flights must look like before anything is decided on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from models.flight_delay import references

LIMITS: Mapping[str, tuple[float, float]] = {
    "sched_elapsed": (15, 900),
    "seats": (1, 500),
    "org_sched_1h": (1, 60),
    "wx_temp": (-30, 120),
    "wx_dewp": (-50, 90),
    "wx_humid": (0, 100),
    "wx_wind_speed": (0, 120),
    "wx_wind_gust": (0, 150),
    "wx_precip": (0, 6),
    "wx_pressure": (920, 1080),
    "wx_visib": (0, 10),
    "wd_sin": (-1, 1),
    "wd_cos": (-1, 1),
    "tod_sin": (-1, 1),
    "tod_cos": (-1, 1),
    "org2h_mean": (-15, 180),
    "oc3h_mean": (-15, 180),
    "dst6h_mean": (-60, 180),
    "tail24h_mean": (-60, 180),
    "org2h_n": (0, 150),
    "oc3h_n": (0, 100),
    "dst6h_n": (0, 100),
    "tail24h_n": (0, 12),
    "org_overdue": (0, 250),
}
"""What is physically and operationally possible; the clips of the features are among it."""

COMPLETE = ("time", "day", "origin", "carrier", "dest", "dow", "hour", "distance", "sched_elapsed")
MOSTLY_COMPLETE = {"wx_temp": 0.9, "wx_wind_speed": 0.9, "wx_pressure": 0.5, "seats": 0.7, "org2h_mean": 0.95}
"""Shares of rows that need a value; in the year 0.5 % lack weather and 16 % are of unlisted aircraft."""

FLIGHTS_A_DAY = (450, 1200)
NIGHT = timedelta(hours=8)
"""No flight leaves New York between midnight and five."""
DAYS = ["Fri", "Mon", "Sat", "Sun", "Thu", "Tue", "Wed"]


def suite(start: datetime, end: datetime, columns: list[str]) -> list[Any]:
    """Great Expectations' expectations of the labelled and unlabelled rows of [start, end), in groups.

    The table has the snapshot's `columns` of rows, and of labels `label` and `lag_hours` (from departure to
    when the label was known); both are missing where a flight never arrived.
    """
    import great_expectations.expectations as gxe

    def between(column: str, low: float | None, high: float | None, **more: Any) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, **more)

    days = (end - start).days
    schema = [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*columns, "label", "lag_hours"], exact_match=True),
        *(gxe.ExpectColumnValuesToBeOfType(column=name, type_="float32") for name in LIMITS),
        *(gxe.ExpectColumnValuesToBeOfType(column=name, type_="str") for name in ("id", "origin", "dest")),
        gxe.ExpectColumnValuesToBeOfType(column="time", type_="Timestamp"),
    ]
    identity = [
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["day", "origin", "carrier", "flight"]),
    ]
    gaps = [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COMPLETE),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=share)
            for name, share in MOSTLY_COMPLETE.items()
        ),
    ]
    ranges = [
        *(between(name, low, high) for name, (low, high) in LIMITS.items()),
        # A real row fails this: a 17-mile flight to the next airport, scheduled and cancelled in July.
        between("distance", 80, 5000, severity="warning"),
        between("plane_age", 0, 60),
    ]
    texts = [
        gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=["EWR", "JFK", "LGA"]),
        gxe.ExpectColumnValuesToBeInSet(column="dow", value_set=DAYS),
        gxe.ExpectColumnValuesToMatchRegex(column="hour", regex="^(?:[01][0-9]|2[0-3])$"),
    ]
    refers_to = {"carrier": references.carriers(), "dest": references.airports()}
    integrity = [
        gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=known, meta={"kind": "referential integrity"}
        )
        for column, known in refers_to.items()
    ]
    fewest, most = FLIGHTS_A_DAY
    volume = [
        gxe.ExpectTableRowCountToBeBetween(min_value=fewest * days, max_value=most * days),
        # Local days: a window between two midnights in Greenwich touches one more.
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="day", min_value=days, max_value=days + 1),
    ]
    fresh = {"kind": "freshness"}
    freshness = [
        gxe.ExpectColumnMaxToBeBetween(column="time", min_value=end - NIGHT, max_value=end, meta=fresh),
        gxe.ExpectColumnMinToBeBetween(column="time", min_value=start, max_value=start + NIGHT, meta=fresh),
    ]
    labels = [
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=[0, 1]),
        gxe.ExpectColumnValuesToNotBeNull(column="label", mostly=0.85),
        gxe.ExpectColumnMeanToBeBetween(column="label", min_value=0.03, max_value=0.6),
        between("lag_hours", 0, 48),
    ]
    return [*schema, *identity, *gaps, *ranges, *texts, *integrity, *volume, *freshness, *labels]
