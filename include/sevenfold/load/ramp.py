"""How much a service carries: what came back at each step of a ramp, and where the knee is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.load.generator import Step
from sevenfold.load.result import LoadResult

IN_TIME = 0.95
"""A step is carried when so many of its requests are answered in time: beyond the knee a queue grows, and
soon none is. One stall may make a step miss it that is not the knee, so the highest carried step counts."""


@dataclass(frozen=True)
class Carried:
    """The steps of one name and rate: what was offered, and what came back.

    Latencies (ms) count from when a request was due.
    """

    name: str
    rate: float
    requests: int
    errors: int
    throughput: float
    """Answers with 200 a second while the steps lasted."""
    p50: float
    p95: float
    p99: float
    closed_loop_p99: float
    """What a generator would say that waits for an answer before it asks again."""
    in_time: float
    """Share of the requests that were answered within the limit, whatever the answer."""

    @property
    def kept_up(self) -> bool:
        """Whether the service carries this rate."""
        return self.in_time >= IN_TIME


def carried(found: LoadResult, steps: Sequence[Step], limit_ms: float) -> list[Carried]:
    """What was carried of each name and rate, in their order, without steps that the run did not finish."""
    together: dict[tuple[str, float], list[Step]] = {}
    last = float(found.at_s.max(initial=0.0))
    for step in steps:
        if last < step.end - 2 / step.rate:
            continue
        together.setdefault((step.name, step.rate), []).append(step)
    return [_carried(found, same, limit_ms) for same in together.values() if found.during(same).requests]


def knee(steps: Sequence[Carried]) -> float:
    """The highest offered rate (requests a second) that was carried; 0 if none was."""
    return max((one.rate for one in steps if one.kept_up), default=0.0)


def _carried(found: LoadResult, steps: Sequence[Step], limit_ms: float) -> Carried:
    mine = found.during(steps)
    answered = (mine.status != 0) & (mine.latency_ms <= limit_ms)
    p50, p95, p99 = mine.percentiles(50, 95, 99)
    seconds = [step.end - step.start for step in steps]
    throughput = np.average([found.answered(step.start, step.end) for step in steps], weights=seconds)
    return Carried(
        name=steps[0].name,
        rate=steps[0].rate,
        requests=mine.requests,
        errors=mine.errors,
        throughput=float(throughput),
        p50=p50,
        p95=p95,
        p99=p99,
        closed_loop_p99=float(np.percentile(mine.service_ms, 99)),
        in_time=float(answered.mean()),
    )
