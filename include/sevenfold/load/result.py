"""What a load met: errors, percentiles of latency from the schedule with their interval, throughput."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sevenfold.load.generator import Step

Floats = NDArray[np.float64]

BLOCKS = 20


@dataclass(frozen=True)
class LoadResult:
    """One row a request, in the order of the schedule; a request that was never answered has status 0."""

    at_s: Floats  # [n] seconds from the start to when the request was due
    latency_ms: Floats  # [n] from due to answered
    service_ms: Floats  # [n] from sent to answered: what a closed loop would report
    status: NDArray[np.int64]  # [n]
    kind: NDArray[np.int64]  # [n] index into kinds
    kinds: Sequence[str]
    report: Path

    @classmethod
    def read(cls, samples: Path, kinds: Sequence[str], report: Path) -> LoadResult:
        """Reads the rows that the locustfile left."""
        rows = np.array(json.loads(samples.read_text()), dtype=np.float64).reshape(-1, 5)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return cls(
            at_s=rows[:, 0],
            latency_ms=rows[:, 1] * 1e3,
            service_ms=rows[:, 2] * 1e3,
            status=rows[:, 3].astype(np.int64),
            kind=rows[:, 4].astype(np.int64),
            kinds=kinds,
            report=report,
        )

    @property
    def requests(self) -> int:
        """How many requests were due."""
        return len(self.status)

    @property
    def errors(self) -> int:
        """How many were not answered with 200: refused, failed, timed out, never sent."""
        return int((self.status != 200).sum())

    @property
    def throughput(self) -> float:
        """Answers with 200 a second, from the first due to the last answered."""
        span = float((self.at_s + self.latency_ms / 1e3).max() - self.at_s.min())
        return (self.requests - self.errors) / max(span, 1e-3)

    def answered(self, start: float, end: float) -> float:
        """Answers with 200 a second that came in at start <= seconds < end, whenever they were asked for."""
        came = self.at_s + self.latency_ms / 1e3
        return int(((came >= start) & (came < end) & (self.status == 200)).sum()) / (end - start)

    def due(self, start: float, end: float = np.inf) -> LoadResult:
        """The requests that were due at start <= seconds < end."""
        return self.where((self.at_s >= start) & (self.at_s < end))

    def during(self, steps: Sequence[Step]) -> LoadResult:
        """The requests that were due in one of the steps."""
        inside = np.zeros(self.requests, np.bool_)
        for step in steps:
            inside |= (self.at_s >= step.start) & (self.at_s < step.end)
        return self.where(inside)

    def percentiles(self, *q: float) -> list[float]:
        """Percentiles (0 to 100) of the latency in ms; NaN without a request."""
        if not self.requests:
            return [np.nan for _ in q]
        return [float(value) for value in np.percentile(self.latency_ms, q)]

    def percentile(self, q: float, kind: str | None = None) -> tuple[float, float, float]:
        """Percentile q (0 to 100) of the latency in ms, and its 95 % interval.

        Requests of one moment share its queue, so single requests are no independent sample: an interval from
        them covers the truth in 22 % of runs. Blocks of time are resampled instead (moving parts of one run;
        what differs from run to run, such as the machine's own load, is not in it).
        """
        chosen = slice(None) if kind is None else np.array(self.kinds)[self.kind] == kind
        blocks = [block for block in np.array_split(self.latency_ms[chosen], BLOCKS) if len(block)]
        if not blocks:
            return np.nan, np.nan, np.nan
        value = float(np.percentile(np.concatenate(blocks), q))
        random = np.random.default_rng(0)
        drawn = random.integers(len(blocks), size=(500, len(blocks)))
        again = [np.percentile(np.concatenate([blocks[i] for i in row]), q) for row in drawn]
        low, high = np.percentile(again, [2.5, 97.5])
        return value, float(low), float(high)

    def where(self, mask: NDArray[np.bool_]) -> LoadResult:
        """Some of the requests."""
        return LoadResult(
            self.at_s[mask],
            self.latency_ms[mask],
            self.service_ms[mask],
            self.status[mask],
            self.kind[mask],
            self.kinds,
            self.report,
        )
