"""Rates per group with intervals that respect days: does a model treat groups differently, and by how much?

Rows of one day share what that day was like, so single rows are no independent sample and intervals from them
are 4 to 6 times too narrow; whole days are resampled (cluster bootstrap). Counts per day and group are enough
for it: 2,000 resamples of a year take a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.errors import SevenfoldError
from sevenfold.model.tasks import Task

Floats = NDArray[np.float64]

ROWS = 0
"""Place of the number of rows in a table of counts."""
RESAMPLES = 2000
SEED = 20130101


@dataclass(frozen=True)
class Counts:
    """What is counted per day and group: rows, and for each rate the two amounts whose ratio it is."""

    groups: Sequence[str]
    rates: Sequence[str]
    table: Floats  # [days, groups, 1 + 2 rates]

    @property
    def total(self) -> Floats:
        """[groups, 1 + 2 rates] over all days."""
        return np.asarray(self.table.sum(axis=0))


@dataclass(frozen=True)
class Gap:
    """How far one group's rate lies from that of all other groups, with the 95 % interval over days.

    `value` is signed (group minus rest). `low` and `high` bound its size, which is what a limit is set on.
    """

    group: str
    rate: str
    rows: int
    value: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """The gap without its sign."""
        return abs(self.value)


@dataclass(frozen=True)
class Change:
    """How much larger a group's gap is than the champion's on the same rows, with the interval of that."""

    group: str
    rate: str
    rows: int
    value: float
    champion: float
    low: float
    high: float
    se: float
    days: int


def count(
    task: Task, days: NDArray[Any], groups: NDArray[Any], labels: NDArray[Any], predictions: NDArray[Any]
) -> Counts:
    """Counts rows [n] per day and group, and the amounts of the task's rates.

    Raises:
        SevenfoldError: there are no rows, or the columns differ in length.
    """
    if not len(days) or len({len(days), len(groups), len(labels), len(predictions)}) != 1:
        raise SevenfoldError(
            f"fairness needs columns of one length above 0, got {len(days)} days, {len(groups)} groups, "
            f"{len(labels)} labels and {len(predictions)} predictions"
        )
    _, day = np.unique(days, return_inverse=True)
    names, group = np.unique(groups.astype(str), return_inverse=True)
    rates = task.fairness(labels, predictions)
    columns = [np.ones(len(days)), *(amount for amounts in rates.values() for amount in amounts)]
    cells, shape = day * len(names) + group, (int(day.max()) + 1, len(names))
    sums = [np.bincount(cells, weights=np.asarray(c, float), minlength=shape[0] * shape[1]) for c in columns]
    table = np.stack(sums, axis=-1).reshape(*shape, len(columns)).astype(np.float64)
    return Counts([str(name) for name in names], list(rates), table)


def gaps(counts: Counts, *, level: float = 0.95) -> list[Gap]:
    """Each group's gap to the rest in each rate. A rate nobody can have (no positives) is left out."""
    drawn = _resample(counts.table)
    found = []
    for place, rate in enumerate(counts.rates):
        value, spread = _against_rest(counts.total, place), _against_rest(drawn, place)
        for index, group in enumerate(counts.groups):
            if not np.isfinite(value[index]):
                continue
            low, high = _interval(spread[:, index], level)
            smallest = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
            size, largest = abs(float(value[index])), max(abs(low), abs(high))
            rows = int(counts.total[index, ROWS])
            found.append(Gap(group, rate, rows, float(value[index]), min(smallest, size), max(largest, size)))
    return found


def changes(candidate: Counts, champion: Counts, *, level: float = 0.95) -> list[Change]:
    """Each group's gap of the candidate minus that of the champion, both resampled with the same days.

    Raises:
        SevenfoldError: the two were not counted on the same days and groups.
    """
    same = candidate.groups == champion.groups and candidate.table.shape == champion.table.shape
    if not same or not np.array_equal(candidate.table[..., ROWS], champion.table[..., ROWS]):
        raise SevenfoldError(
            "fairness is compared on the same rows only, and these counts are of different ones"
        )
    ours, theirs = _resample(candidate.table), _resample(champion.table)
    found = []
    for place, rate in enumerate(candidate.rates):
        value = np.abs(_against_rest(candidate.total, place))
        baseline = np.abs(_against_rest(champion.total, place))
        spread = np.abs(_against_rest(ours, place)) - np.abs(_against_rest(theirs, place))
        for index, group in enumerate(candidate.groups):
            if not np.isfinite(value[index] - baseline[index]):
                continue
            low, high = _interval(spread[:, index], level)
            rows = int(candidate.total[index, ROWS])
            difference = float(value[index] - baseline[index])
            error = float(np.nanstd(spread[:, index], ddof=1))
            days = candidate.table.shape[0]
            found.append(
                Change(group, rate, rows, difference, float(baseline[index]), low, high, error, days)
            )
    return found


def _resample(table: Floats) -> Floats:
    """[resamples, groups, 1 + 2 rates]: totals over days drawn with replacement, each time the same."""
    days = table.shape[0]
    weights = np.random.default_rng(SEED).multinomial(days, np.full(days, 1 / days), size=RESAMPLES)
    return np.asarray(np.einsum("rd,dgc->rgc", weights.astype(float), table, optimize=True))


def _against_rest(totals: Floats, place: int) -> Floats:
    """[..., groups] one rate of each group minus that of all others together."""
    rest = totals.sum(axis=-2, keepdims=True) - totals
    return np.asarray(_rate(totals, place) - _rate(rest, place))


def _rate(totals: Floats, place: int) -> Floats:
    """[...] of totals [..., 1 + 2 rates]; NaN where nothing can be said."""
    above, below = totals[..., 1 + 2 * place], totals[..., 2 + 2 * place]
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0))


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of the resamples in which the rate exists."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
