"""Rates per group with intervals that respect days: does a model treat groups differently, and by how much?

Rows of one day share weather and congestion, so single rows are no independent sample and intervals from them
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

Floats = NDArray[np.float64]

RATES = ("true_positive_rate", "false_positive_rate", "calibration")
"""Calibration is the mean probability minus the observed rate: above zero the group is over-warned."""

ROWS, POSITIVES, TRUE_POSITIVES, FALSE_POSITIVES, PROBABILITY = range(5)
RESAMPLES = 2000
SEED = 20130101


@dataclass(frozen=True)
class Counts:
    """What is counted per day and group: rows, positives, true and false positives, sum of probabilities."""

    groups: Sequence[str]
    table: Floats  # [days, groups, 5]

    @property
    def total(self) -> Floats:
        """[groups, 5] over all days."""
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
    days: NDArray[Any],
    groups: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    threshold: float,
) -> Counts:
    """Counts rows [n] per day and group; a row is decided positive when its probability reaches `threshold`.

    Raises:
        SevenfoldError: there are no rows, or the columns differ in length.
    """
    if not len(days) or len({len(days), len(groups), len(labels), len(probabilities)}) != 1:
        raise SevenfoldError(
            f"fairness needs columns of one length above 0, got {len(days)} days, {len(groups)} groups, "
            f"{len(labels)} labels and {len(probabilities)} probabilities"
        )
    _, day = np.unique(days, return_inverse=True)
    names, group = np.unique(groups.astype(str), return_inverse=True)
    positive, chosen = labels.astype(bool), probabilities >= threshold
    columns = (np.ones(len(days)), positive, positive & chosen, ~positive & chosen, probabilities)
    cells, shape = day * len(names) + group, (int(day.max()) + 1, len(names))
    sums = [np.bincount(cells, weights=np.asarray(c, float), minlength=shape[0] * shape[1]) for c in columns]
    table = np.stack(sums, axis=-1).reshape(*shape, len(columns)).astype(np.float64)
    return Counts(groups=[str(name) for name in names], table=table)


def gaps(counts: Counts, *, level: float = 0.95) -> list[Gap]:
    """Each group's gap to the rest in each rate. A rate nobody can have (no positives) is left out."""
    drawn = _resample(counts.table)
    found = []
    for rate in RATES:
        value, spread = _against_rest(counts.total, rate), _against_rest(drawn, rate)
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
    for rate in RATES:
        value = np.abs(_against_rest(candidate.total, rate))
        baseline = np.abs(_against_rest(champion.total, rate))
        spread = np.abs(_against_rest(ours, rate)) - np.abs(_against_rest(theirs, rate))
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
    """[resamples, groups, 5]: totals over days drawn with replacement, the same draw at each call."""
    days = table.shape[0]
    weights = np.random.default_rng(SEED).multinomial(days, np.full(days, 1 / days), size=RESAMPLES)
    return np.asarray(np.einsum("rd,dgc->rgc", weights.astype(float), table, optimize=True))


def _against_rest(totals: Floats, rate: str) -> Floats:
    """[..., groups] rate of each group minus the rate of all others together."""
    rest = totals.sum(axis=-2, keepdims=True) - totals
    return np.asarray(_rate(totals, rate) - _rate(rest, rate))


def _rate(totals: Floats, rate: str) -> Floats:
    """[...] of totals [..., 5]; NaN where nothing can be said."""
    rows, positives = totals[..., ROWS], totals[..., POSITIVES]
    above, below = {
        "true_positive_rate": (totals[..., TRUE_POSITIVES], positives),
        "false_positive_rate": (totals[..., FALSE_POSITIVES], rows - positives),
        "calibration": (totals[..., PROBABILITY] - positives, rows),
    }[rate]
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0))


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of the resamples in which the rate exists."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
