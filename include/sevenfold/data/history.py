"""What was known when: asked at a moment, it tells what had become known by then, and nothing later.

A feature made of the past is where leaks come from, by a wrong sign or a join on the wrong time. Features
that come from here cannot leak: the time of each answer comes with it, and none is later than the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.errors import SevenfoldError

Times = NDArray[np.datetime64]
"""UTC, to the microsecond; NaT for never."""
Floats = NDArray[np.float64]


class History:
    """Readings of several series, such as one a place."""

    def __init__(self, known_at: Times, series: NDArray[Any], readings: Mapping[str, Floats]) -> None:
        """`known_at` [m] is when each reading became known, not when it was taken; `series` [m] whose it is.

        Raises:
            SevenfoldError: the columns differ in length, or a time is missing.
        """
        lengths = {len(known_at), len(series), *(len(values) for values in readings.values())}
        if len(lengths) != 1:
            raise SevenfoldError(f"a history needs columns of one length, got {sorted(lengths)}")
        known_at = known_at.astype("datetime64[us]")
        if np.isnat(known_at).any():
            raise SevenfoldError("a reading of a history does not say when it became known")
        self._names, code = np.unique(series.astype(str), return_inverse=True)
        order = np.lexsort((known_at.astype(np.int64), code))
        self._code, self._known = code[order], known_at[order]
        self._readings = {name: np.asarray(values, np.float64)[order] for name, values in readings.items()}

    def at(
        self, moment: Times, series: NDArray[Any], no_older_than: np.timedelta64 | None = None
    ) -> tuple[dict[str, Floats], Times]:
        """The newest readings [n] known at each `moment` [n], and when they became known.

        Missing (NaN and NaT) where the series had none yet, or none that is young enough.
        """
        moment = moment.astype("datetime64[us]")
        place = np.searchsorted(self._names, series.astype(str)).clip(max=len(self._names) - 1)
        found = np.full(len(moment), -1)
        for code, name in enumerate(self._names):
            mine = (place == code) & (series.astype(str) == name)
            first, last = np.searchsorted(self._code, [code, code + 1])
            newest = first + np.searchsorted(self._known[first:last], moment[mine], "right") - 1
            found[mine] = np.where(newest >= first, newest, -1)
        known = np.where(found >= 0, self._known[found], np.datetime64("NaT"))
        if no_older_than is not None:
            known = np.where(moment - known <= no_older_than, known, np.datetime64("NaT"))
        there = ~np.isnat(known)
        return {name: np.where(there, of[found], np.nan) for name, of in self._readings.items()}, known
