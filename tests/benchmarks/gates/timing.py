"""How long judging takes and what memory it needs, as measurements pile up."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from functools import lru_cache

from tests.gate_case import interval, judged, live, metric, policy, reading

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy
from sevenfold.gates.verdict import Verdict

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


def growth(first: int = 50, last: int = 500) -> tuple[float, float]:
    """KiB that one process still holds after so many polls, each with one interval more to judge.

    As a gate polls: it judges what is stored, and keeps nothing but the verdict.
    """
    readings, held = stored(last), []
    judged(ERRORS, readings[:first])
    tracemalloc.start()
    for polls in range(1, last + 1):
        judged(ERRORS, readings[:polls])
        if polls in (first, last):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0] / 1024)
    tracemalloc.stop()
    return held[0], held[1]


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
    """Under a second for 10,000; a look works with few bytes a stored reading, and leaves nothing behind."""
    found = _measured()
    one, many = (found[name][0] for name in ("10,000 polls of one metric", "10,000 readings of 40 metrics"))
    few, many_polls = (found[f"{polls} polls of one metric"][1] for polls in ("10,000", "100,000"))
    each = MIB * (many_polls - few) / 90_000
    early, late = growth()
    return [
        ("seconds to judge 10,000 polls of one metric", one, "< 1", one < 1),
        ("seconds to judge 10,000 readings of 40 metrics", many, "< 1", many < 1),
        ("bytes that a look works with for each stored poll, freed after it", each, "< 200", each < 200),
        ("KiB held after 500 polls, less those after 50", late - early, "< 16", late - early < 16),
    ]
