"""How long judging takes and what memory it needs, as measurements pile up."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from functools import lru_cache

from tests.gate_case import interval, judged, live, metric, policy, reading

from sevenfold.measurement import Measurement
from sevenfold.policy import Metric, Policy
from sevenfold.verdict import Verdict

ERRORS = live(deadline="1d")
MIB = 1024**2


def stored(polls: int) -> list[Measurement]:
    """So many intervals of one live metric, as they come out of the store."""
    return [interval(ERRORS, f"{key:09d}", 5 + key % 2, 500, 50, 4500) for key in range(polls)]


def of_many_metrics(count: int) -> tuple[float, float]:
    """(seconds, MiB at the peak) of judging so many readings of 20 live metrics and 20 others."""
    rates = [live(metric=f"rate_{number}") for number in range(20)]
    losses = [metric(metric=f"loss_{number}") for number in range(20)]
    readings = [
        interval(of, f"{key:09d}", 5, 500, 50, 4500) for of in rates for key in range(count // len(rates))
    ]
    readings += [reading(of, 0.5, low=0.4, high=0.6) for of in losses]
    gate = policy(*rates, *losses)
    assert judged(gate, readings).verdict is Verdict.SUCCESSFUL
    return _cost(gate, readings)


def once(polls: int) -> tuple[float, float]:
    """(seconds, MiB at the peak beyond what was stored) of judging so many polls of one metric."""
    return _cost(ERRORS, stored(polls))


def _cost(gate: Metric | Policy, readings: list[Measurement]) -> tuple[float, float]:
    started = time.perf_counter()
    judged(gate, readings)
    seconds = time.perf_counter() - started
    tracemalloc.start()
    judged(gate, readings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak / MIB


def growth(looks: int = 50, polls: int = 1000) -> float:
    """MiB that stay behind after judging again and again, as a gate does while it polls."""
    readings = stored(polls)
    judged(ERRORS, readings)
    tracemalloc.start()
    judged(ERRORS, readings)
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(looks):
        judged(ERRORS, readings)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / MIB


@lru_cache(maxsize=1)
def _measured() -> dict[str, tuple[float, float]]:
    found = {f"{polls:,} polls of one metric": once(polls) for polls in (1000, 10_000, 100_000)}
    found["10,000 readings of 40 metrics"] = of_many_metrics(10_000)
    return found


def judged_lines() -> Iterator[tuple[str, float, float]]:
    """(what, seconds, MiB) of each size."""
    for name, (seconds, peak) in _measured().items():
        yield name, seconds, peak


def bounds() -> list[tuple[str, float, str, bool]]:
    """Under a second for 10,000; per stored reading a few bytes; nothing stays behind."""
    found = _measured()
    one, many = (found[name][0] for name in ("10,000 polls of one metric", "10,000 readings of 40 metrics"))
    bytes_each = MIB * found["100,000 polls of one metric"][1] / 100_000
    left = growth()
    return [
        ("seconds to judge 10,000 polls of one metric", one, "< 1", one < 1),
        ("seconds to judge 10,000 readings of 40 metrics", many, "< 1", many < 1),
        ("bytes of working memory for each stored poll", bytes_each, "< 500", bytes_each < 500),
        ("MiB left behind by 50 further looks", left, "< 0.1", left < 0.1),
    ]
