"""A/A: the champion's own traffic split in two, to learn how far bad events are from independent ones.

A canary's rule takes the bad events of an arm for independent. Where they come in bursts of one arm it is too
sure of itself, by a factor phi (`over_dispersion` of a metric). What differs between two arms are processes,
so errors and slow answers are split by the replica that answered; a wrong decision is no replica's fault, so
those are split by request, as a canary splits them: what rows of one request have in common shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sevenfold.gates.policy import Metric
from sevenfold.gates.rules.rate_ratio import over_dispersion
from sevenfold.gates.rules.rule import Unusable
from sevenfold.measures.wrong import judged, parts
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring.answers import AccessLog
from sevenfold.serving import log

Floats = NDArray[np.float64]

FEWEST = 60
"""Blocks with a bad event below which the bound on phi says more of its own width than of the service."""
WIDER = (4, 16, 64)
"""Bursts may last longer than an interval: blocks of so many count where they are proven to vary more."""
SURE = 0.99


@dataclass(frozen=True)
class Spread:
    """How much more one metric's bad events vary than independent ones, or why that is not known."""

    metric: str
    phi: float | None
    """At the upper end of what the data allow (90 %), at least 1."""
    blocks: int
    events: int
    why_not: str = ""


@dataclass(frozen=True)
class Served:
    """One live answer of the champion: when it was asked, by which replica it was answered, and how."""

    at: datetime
    replica: str
    error: bool
    slow: bool


def spread(metric: str, intervals: Floats) -> Spread:
    """phi of counts [k, 4] (e1, n1, e0, n0), one row an interval in the order of time.

    Source: McCullagh and Nelder, Generalized Linear Models, 4.5, in blocks of several widths.
    """
    events = int(intervals[:, (0, 2)].sum()) if len(intervals) else 0
    single = _blocks(intervals, 1)
    if len(single) < FEWEST:
        said = f"{len(single)} intervals with a bad event and both halves, {FEWEST} are needed"
        return Spread(metric, None, len(single), events, said)
    phi = over_dispersion(single)
    for width in WIDER:
        blocks = _blocks(intervals, width)
        if len(blocks) >= FEWEST and over_dispersion(blocks, alpha=SURE) > phi:
            phi = over_dispersion(blocks)
    return Spread(metric, phi, len(single), events)


def by_replica(served: Sequence[Served], interval: timedelta) -> Mapping[str, Floats]:
    """errors and slow -> counts [k, 4] of one half of the replicas against the other.

    Raises:
        Unusable: one replica answered everything: it has no other half.
    """
    replicas = sorted({one.replica for one in served})
    if len(replicas) < 2:
        raise Unusable(f"{len(replicas)} replica has answered, and a split by replica takes two")
    half = set(replicas[::2])
    begin = min(one.at for one in served)
    number = np.array([(one.at - begin) // interval for one in served], dtype=np.int64)
    first = np.array([one.replica in half for one in served])
    bad = {
        "errors": np.array([one.error for one in served], float),
        "slow": np.array([one.slow for one in served], float),
    }
    return {metric: _count(number, first, events) for metric, events in bad.items()}


def by_request(request: Sequence[str], wrong: NDArray[np.bool_], part: NDArray[np.int64]) -> Floats:
    """Counts [k, 4] of wrong decisions of half of the requests against the other, in each part of a day.

    request [n]: x-request-id of each row, wrong [n], part [n]: number of the part of a day.
    """
    heads = {one: hashlib.sha256(one.encode()).digest()[0] < 128 for one in set(request)}
    return _count(part, np.array([heads[one] for one in request], bool), wrong.astype(np.float64))


def measure(
    logs: Path,
    spec: ModelSpec,
    champion: str,
    interval: timedelta,
    since: datetime,
    final: datetime,
) -> list[Spread]:
    """phi of errors, slow answers and wrong decisions of the champion.

    Args:
        logs: the folder of all logs.
        spec: whose champion.
        champion: candidate id.
        interval: how often the canary will poll.
        since: wall time from which answers count.
        final: all labels of rows before this (the model's time) are known.
    """
    served = read_served(logs, spec.name, champion, spec.serving.sla.p99_ms, since)
    try:
        found = [spread(metric, counts) for metric, counts in by_replica(served, interval).items()]
    except Unusable as unusable:
        found = [Spread(metric, None, 0, 0, str(unusable)) for metric in ("errors", "slow")]
    rows = log.predictions(logs, spec.name, champion, end=final)
    wall = pa.scalar(since, pa.timestamp("us", tz="UTC"))
    rows = rows.filter(pc.and_(pc.equal(rows["arm"], "champion"), pc.greater_equal(rows["wall"], wall)))
    rows, wrong = judged(spec.task, rows, log.feedback(logs, spec.name))
    counts = by_request(rows["request"].to_pylist(), wrong, parts(rows))
    return [*found, spread("wrong_labels", counts)]


def sentence(found: Spread, asked: Metric | None) -> str:
    """What was found, and what it means for the gate."""
    name = found.metric.replace("_", " ")
    if found.phi is None:
        return f"{name}: not known ({found.why_not})"
    seen = f"{found.events:,} events in {found.blocks:,} intervals"
    said = f"{name}: over_dispersion at most {found.phi:.2f} ({seen})"
    if asked is None:
        return f"{said}; the gate does not ask for it live"
    now = asked.over_dispersion
    return f"{said}; the gate says {now:g}, which is {'enough' if now >= found.phi else 'too little'}"


def read_served(logs: Path, model: str, champion: str, slow_ms: float, since: datetime) -> list[Served]:
    """The champion's live answers in the gateways' access logs since a moment."""
    return [
        Served(one.at, one.replica, one.status != 200, one.milliseconds > slow_ms)
        for one in AccessLog(logs, model, since=since).newest()
        if one.path == f"/v2/models/{model}/infer"
        and (one.candidate, one.purpose) == (champion, "live")
        and one.replica
        and one.at >= since
    ]


def _count(number: NDArray[np.int64], first: NDArray[np.bool_], bad: Floats) -> Floats:
    """Sums by interval: bad and all of the first half, bad and all of the second."""
    distinct, place = np.unique(number, return_inverse=True)
    columns = [
        np.bincount(place[side], weights=weight[side], minlength=len(distinct))
        for side in (first, ~first)
        for weight in (bad, np.ones_like(bad))
    ]
    return np.stack(columns, axis=1) if len(distinct) else np.zeros((0, 4))


def _blocks(intervals: Floats, width: int) -> Floats:
    """Sums of so many neighbouring intervals, those that say something: both halves asked, a bad event."""
    whole = len(intervals) // width * width
    if not whole:
        return np.zeros((0, 4))
    sums = intervals[:whole].reshape(-1, width, 4).sum(axis=1)
    return np.asarray(sums[(sums[:, 0] + sums[:, 2] > 0) & (sums[:, 1] > 0) & (sums[:, 3] > 0)])
