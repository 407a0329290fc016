"""What weather reports and later temperatures must look like before anything is decided on them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

LIMITS = {
    "temp": (-35, 45),
    "dew_point": (-45, 35),
    "humidity": (0, 100),
    "pressure": (920, 1080),
    "rain": (0, 150),
    "visibility": (0, 17),
    "temp_change_3h": (-20, 20),
    "temp_18h_ago": (-35, 45),
    "hour_sin": (-1, 1),
    "hour_cos": (-1, 1),
}
"""What is physically possible at sea level in these latitudes."""

MOSTLY_COMPLETE = {"temp": 0.99, "humidity": 0.99, "wind_speed": 0.99, "pressure": 0.6, "temp_18h_ago": 0.9}
"""Shares of reports that need a value; in the year a tenth has no pressure, in some weeks a third."""


def suite(start: datetime, end: datetime, columns: list[str]) -> list[Any]:
    """Great Expectations' expectations of the rows of [start, end).

    The table has the snapshot's `columns` of rows, and of labels `label` and `lag_hours` (from the report to
    the one that says what became of it); both are missing where that report is.
    """
    import great_expectations.expectations as gxe

    def between(column: str, low: float | None, high: float | None, **more: Any) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, **more)

    days = (end - start).days
    return [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*columns, "label", "lag_hours"], exact_match=True),
        *(gxe.ExpectColumnValuesToBeOfType(column=name, type_="float32") for name in LIMITS),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["time", "airport"]),
        *(
            gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=share)
            for name, share in MOSTLY_COMPLETE.items()
        ),
        *(between(name, low, high) for name, (low, high) in LIMITS.items()),
        # data.py has let no reading through that is beyond these.
        between("wind_speed", 0, 200),
        *(between(name, -200, 200) for name in ("wind_north", "wind_east")),
        gxe.ExpectColumnValuesToBeInSet(column="airport", value_set=["EWR", "JFK", "LGA"]),
        gxe.ExpectTableRowCountToBeBetween(min_value=60 * days, max_value=72 * days),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="day", min_value=days, max_value=days),
        gxe.ExpectColumnValuesToNotBeNull(column="label", mostly=0.9),
        between("label", -35, 45),
        between("lag_hours", 6, 6),
    ]
