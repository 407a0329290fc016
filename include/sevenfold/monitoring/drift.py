"""Drift of rows and scores against a frozen reference: the rows on which the champion was trained.

The reference is a small JSON of shares, so that no training row is needed when weeks are compared. A week's
distance is the population stability index (PSI) over the reference's deciles or values, missing ones being a
bin of their own. No one limit suits all columns: single weeks of the reference itself reach 2 for a
temperature. So each column's limit is the largest PSI of any complete week of the reference, but never below
0.1, which is customarily called no change: what was usual is no alarm, and what is tiny is none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict

from sevenfold.data import weeks
from sevenfold.errors import SevenfoldError

SCORE = "score"
"""The column of the model's own answers, compared like any numeric feature."""
BINS = 10
FEWEST_WEEKS = 4
"""A maximum over fewer weeks says nothing about what is usual."""
FEWEST_ROWS = 200
SMALLEST_LIMIT = 0.1
SMALLEST_SHARE = 1e-4
"""Shares below count as this: an empty bin would make PSI infinite."""

Floats = NDArray[np.float64]


class BadReference(SevenfoldError):
    """Rows that no reference can be made of, or a reference that does not fit the rows."""


class Numeric(BaseModel):
    """`edges` are the inner edges of the bins; `shares` has one more value than bins: the last is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def count(self, values: pa.ChunkedArray) -> Floats:
        """The share of `values` in each bin, and missing."""
        numbers = _numbers(values)
        missing = np.isnan(numbers)
        bins = np.searchsorted(np.asarray(self.edges), numbers[~missing], side="left")
        counts = np.append(np.bincount(bins, minlength=len(self.edges) + 1), missing.sum())
        return np.asarray(counts / max(1, len(numbers)), dtype=np.float64)

    def psi(self, values: pa.ChunkedArray) -> float:
        """Distance of `values` from the reference."""
        return psi(np.asarray(self.shares), self.count(values))


class Categorical(BaseModel):
    """The share of each value; a missing one is the value None, written as the empty string."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: dict[str, float]

    def psi(self, values: pa.ChunkedArray) -> float:
        """Distance of `values` from the reference; values that it does not know count each as new."""
        now = _shares(values)
        names = list(self.shares | now)
        known = np.array([self.shares.get(name, 0.0) for name in names])
        return psi(known, np.array([now.get(name, 0.0) for name in names]))

    def unseen(self, values: pa.ChunkedArray) -> float:
        """The share of values that the reference does not know."""
        return sum(share for name, share in _shares(values).items() if name not in self.shares)


class Reference(BaseModel):
    """What is usual for a candidate: shares of its training rows and their scores, and weekly limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str
    start: AwareDatetime
    end: AwareDatetime
    rows: int
    weeks: int
    """Complete weeks that the limits are the maximum of."""
    numeric: dict[str, Numeric]
    categorical: dict[str, Categorical]
    limits: dict[str, float]


@dataclass(frozen=True)
class Shift:
    """How far one column of a week lies from the reference."""

    column: str
    psi: float
    limit: float
    unseen: float
    """The share of values that are not in the reference; 0 for numeric columns."""

    @property
    def drifted(self) -> bool:
        """Further away than any week of the reference itself."""
        return self.psi > self.limit


def reference(
    candidate: str,
    rows: pa.Table,
    scores: Floats,
    window: tuple[datetime, datetime],
    numeric: Sequence[str],
    categorical: Sequence[str],
    anchor: date,
) -> Reference:
    """The reference of `candidate`: the `rows` of its training window and its `scores` [n] on them.

    Args:
        rows: a table with the columns `time` and all features, of all rows in `window`.
        anchor: the first day of a week; see sevenfold.data.weeks.

    Raises:
        BadReference: fewer than four complete weeks, or scores of another length.
    """
    if rows.num_rows != len(scores) or not len(scores):
        raise BadReference(f"the reference of {candidate} has {rows.num_rows} rows but {len(scores)} scores")
    rows = rows.append_column(SCORE, pa.array(scores, pa.float64()))
    own = [weeks.within(rows, week) for week in weeks.complete(anchor, *window)]
    own = [week for week in own if week.num_rows >= FEWEST_ROWS]
    if len(own) < FEWEST_WEEKS:
        raise BadReference(
            f"the training rows of {candidate} hold {len(own)} complete weeks, "
            f"but limits of drift need {FEWEST_WEEKS}"
        )
    numbers = {name: _numeric(rows[name]) for name in (*numeric, SCORE)}
    texts = {name: Categorical(shares=_shares(rows[name])) for name in categorical}
    profiles: dict[str, Numeric | Categorical] = {**numbers, **texts}
    return Reference(
        candidate=candidate,
        start=window[0],
        end=window[1],
        rows=rows.num_rows,
        weeks=len(own),
        numeric=numbers,
        categorical=texts,
        limits={
            name: max(SMALLEST_LIMIT, *(profile.psi(week[name]) for week in own))
            for name, profile in profiles.items()
        },
    )


def compare(reference: Reference, rows: pa.Table, scores: Floats | pa.ChunkedArray) -> list[Shift]:
    """Each column's distance from the reference, the score first, then by how often it is its limit.

    Raises:
        BadReference: a column of the reference is not in `rows`.
    """
    table = rows.append_column(SCORE, scores if isinstance(scores, pa.ChunkedArray) else pa.array(scores))
    profiles: Mapping[str, Numeric | Categorical] = {**reference.numeric, **reference.categorical}
    absent = sorted(set(profiles) - set(table.column_names))
    if absent:
        raise BadReference(
            f"rows lack columns of the reference of {reference.candidate}: {', '.join(absent)}"
        )
    shifts = []
    for name, profile in profiles.items():
        unseen = profile.unseen(table[name]) if isinstance(profile, Categorical) else 0.0
        shifts.append(Shift(name, profile.psi(table[name]), reference.limits[name], unseen))
    return sorted(shifts, key=lambda shift: (shift.column != SCORE, -shift.psi / shift.limit))


def psi(reference: Floats, now: Floats) -> float:
    """Population stability index of two vectors of shares: sum of (now - reference) ln(now / reference)."""
    before, after = (np.clip(shares, SMALLEST_SHARE, None) for shares in (reference, now))
    before, after = before / before.sum(), after / after.sum()
    return float(((after - before) * np.log(after / before)).sum())


def _numeric(values: pa.ChunkedArray) -> Numeric:
    numbers = _numbers(values)
    known = numbers[~np.isnan(numbers)]
    inner = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1))[1:-1]) if len(known) else np.array([])
    empty = Numeric(edges=tuple(inner.tolist()), shares=())
    return empty.model_copy(update={"shares": tuple(empty.count(values).tolist())})


def _shares(values: pa.ChunkedArray) -> dict[str, float]:
    counted: Any = pc.fill_null(values.cast(pa.string()), "").value_counts()
    return {entry["values"]: entry["counts"] / len(values) for entry in counted.to_pylist()}


def _numbers(values: pa.ChunkedArray) -> Floats:
    return np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
