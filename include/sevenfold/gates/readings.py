"""Which readings may be judged at all: everything that is wrong with one is found here, before any rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite

from sevenfold.candidates.candidate import Candidate
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric
from sevenfold.gates.rules.rule import Unusable
from sevenfold.gates.rules.words import duration

CLOCK_SKEW = timedelta(minutes=5)
"""How far the clock of the machine that measured may be ahead of ours."""

MOST = 1e15
"""More than anybody counts; beyond it floats no longer count one by one."""

_AMOUNTS = ("e1", "n1", "e0", "n0", "bad", "n", "se", "clusters", "phi", "share")
_PARTS = (("e1", "n1"), ("e0", "n0"), ("bad", "n"))


@dataclass(frozen=True)
class Subject:
    """What readings must be about to count, and the moment at which they are looked at."""

    promotion: str
    candidate: Candidate
    champion: Candidate | None
    anchor: Candidate | None
    now: datetime
    data_now: datetime | None
    uses: int | None

    def baseline(self, name: str) -> Candidate | None:
        """The candidate that stands behind the name of a baseline."""
        return {"champion": self.champion, "anchor": self.anchor}.get(name)

    def has(self, baseline: str) -> bool:
        """Whether there is such a baseline. Where there is a champion there has to be an anchor too."""
        return self.baseline(baseline) is not None or self.champion is not None


def require_usable(reading: Measurement, metric: Metric, subject: Subject) -> None:
    """Raises Unusable with the first thing that is wrong with a reading."""
    for complaint in (_of_another(reading, subject), _not_numbers(reading), _empty(reading, metric)):
        if complaint:
            raise Unusable(complaint)


def require_fresh(newest: Measurement, metric: Metric, subject: Subject) -> None:
    """Raises Unusable if the newest reading of a metric is older than allowed, or from the future."""
    age = subject.now - newest.measured_at
    if age > metric.stale_after:
        allowed = duration(metric.stale_after)
        raise Unusable(f"it was measured {_ago(age)} ago, and readings count for {allowed}")
    if age < -CLOCK_SKEW:
        raise Unusable(f"it was measured {_ago(-age)} in the future: the clocks disagree")


def distinct(readings: Sequence[Measurement]) -> list[Measurement]:
    """One reading per polling interval, ordered by its key; duplicates change nothing.

    Raises:
        Unusable: a reading has no interval, or one interval was recorded with two different contents.
    """
    found: dict[str, Measurement] = {}
    for reading in readings:
        if reading.interval is None:
            raise Unusable("a reading does not say of which interval it is")
        known = found.setdefault(reading.interval, reading)
        if known is not reading and content(known) != content(reading):
            raise Unusable(f"interval {reading.interval} was recorded twice with different numbers")
    return [found[interval] for interval in sorted(found)]


def content(reading: Measurement) -> tuple[object, ...]:
    """What a reading says, apart from when it was said."""
    counts = tuple(sorted(reading.counts.items())) if reading.counts else ()
    return (
        reading.value,
        reading.n,
        reading.low,
        reading.high,
        reading.baseline_value,
        counts,
        reading.digest,
    )


def mature(readings: Sequence[Measurement], metric: Metric, subject: Subject) -> list[Measurement]:
    """The intervals whose labels are all in: young ones would favour the arm whose bad labels come late.

    Raises:
        Unusable: an interval does not say when it ended, or the data's time is not known.
    """
    if metric.matured_after is None:
        return list(readings)
    if subject.data_now is None:
        raise Unusable("the time that the data have reached is not known, so no label is known to be final")
    kept = []
    for reading in readings:
        if reading.window_end is None:
            raise Unusable(f"interval {reading.interval} does not say when it ended")
        if reading.window_end + metric.matured_after <= subject.data_now:
            kept.append(reading)
    return kept


def _of_another(reading: Measurement, subject: Subject) -> str | None:
    candidate = subject.candidate
    if reading.promotion != subject.promotion:
        return f"it belongs to promotion {reading.promotion}"
    if reading.candidate != candidate.id:
        return f"it was measured on candidate {reading.candidate or 'none'}, not on {candidate.id}"
    if reading.digest != candidate.model_digest:
        return (
            f"it was measured on model file {reading.digest[:12] or 'unknown'}, "
            f"and the candidate's is {candidate.model_digest[:12]}"
        )
    if reading.source.startswith("estimate"):
        return "it is an estimate without labels, which may warn but decides nothing"
    if reading.baseline != "none":
        baseline = subject.baseline(reading.baseline)
        if baseline is None or reading.baseline_candidate != baseline.id:
            return (
                f"it was compared with {reading.baseline_candidate or 'an unnamed candidate'}, "
                f"and the {reading.baseline} is {baseline.id if baseline else 'nobody'}"
            )
    return None


def _not_numbers(reading: Measurement) -> str | None:
    named = {
        "value": reading.value,
        "low": reading.low,
        "high": reading.high,
        "baseline_value": reading.baseline_value,
    } | (reading.counts or {})
    for name, number in named.items():
        if number is not None and not isfinite(number):
            return f"its {name} is {number}, which is not a finite number"
    return None


def _empty(reading: Measurement, metric: Metric) -> str | None:
    counts = reading.counts or {}
    for name in _AMOUNTS:
        if counts.get(name, 0) < 0:
            return f"its count {name} is {counts[name]:g}: the counter was reset in between"
        if counts.get(name, 0) > MOST:
            return f"its count {name} is {counts[name]:g}, which cannot be"
    for part, whole in _PARTS:
        if counts.get(part, 0) > counts.get(whole, 0):
            return (
                f"its count {part} is {counts[part]:g} of {whole} {counts.get(whole, 0):g}, which cannot be"
            )
    if reading.n < 0:
        return f"its n is {reading.n}"
    if not metric.polled and reading.n == 0:
        return "it was measured on nothing (n is 0)"
    if not metric.polled and counts.get("n", 1) == 0:
        return "its denominator n is 0"
    return None


def _ago(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return (
        f"{hours / 24:.1f} days"
        if hours >= 48
        else f"{hours:.1f} h"
        if hours >= 1
        else f"{hours * 60:.0f} min"
    )
