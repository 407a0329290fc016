"""The page about a load test: what was offered, what came back, where the knee is, in tables and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from sevenfold.load.generator import Step
from sevenfold.load.ramp import IN_TIME, Carried, carried, knee
from sevenfold.load.result import LoadResult
from sevenfold.reports import page, plots

HOW = (
    "Requests leave on a schedule, whether or not earlier ones were answered, and each one's time counts "
    "from when it was due. A closed loop, which waits before it asks again, would hide every stall "
    "(coordinated omission); the column 'closed loop' shows what it would have said."
)
BINS = 80
"""Points of the picture over time."""


def load_page(
    title: str, found: LoadResult, steps: Sequence[Step], limit_ms: float, sentences: Sequence[str] = ()
) -> str:
    """The page as HTML.

    Args:
        title: its heading.
        found: what the load met.
        steps: the steps of its schedule.
        limit_ms: how fast an answer must be, in ms from when its request was due.
        sentences: what there is to say first.
    """
    met = carried(found, steps, limit_ms)
    by_rate = sorted(met, key=lambda one: one.rate)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = [page.image(time_plot(folder, found, steps, limit_ms), "Latency over time")]
        if len({one.rate for one in met}) > 1:
            pictures = [
                page.image(throughput_plot(folder, by_rate), "Throughput against offered load"),
                page.image(latency_plot(folder, by_rate, limit_ms), "Latency against offered load"),
                *pictures,
            ]
    return page.page(
        title,
        *(page.text(sentence) for sentence in sentences),
        *pictures,
        page.heading("Step by step"),
        _table(met),
        page.text(HOW),
        page.text(
            f"A rate is carried when {IN_TIME:.0%} of its requests are answered within {limit_ms:g} ms; the "
            "knee is the highest rate that was carried. A ramp ends where a queue grows that nothing works "
            "off, and what waits then counts as an error. The load generator runs on the same machine, so "
            "the knee of the service alone lies higher."
        ),
    )


def throughput_plot(folder: Path, steps: Sequence[Carried]) -> Path:
    """Answers a second over requests a second, with the knee."""
    rates = [one.rate for one in steps]
    return plots.series(
        folder / "throughput.png",
        rates,
        {
            "answered": ([one.throughput for one in steps], None, None),
            "as much as is offered": (rates, None, None),
        },
        "Throughput: what comes back of what is offered",
        "answers a second",
        _mark(steps),
        xlabel="offered requests a second",
    )


def latency_plot(folder: Path, steps: Sequence[Carried], limit_ms: float) -> Path:
    """Percentiles over requests a second, with the knee."""
    percentiles = {
        f"p{q}": ([float(getattr(one, f"p{q}")) for one in steps], None, None) for q in (50, 95, 99)
    }
    return plots.series(
        folder / "latency.png",
        [one.rate for one in steps],
        percentiles,
        "Latency, from when a request was due",
        "ms (logarithmic)",
        _mark(steps),
        {f"limit, {limit_ms:g} ms": limit_ms},
        xlabel="offered requests a second",
        log=True,
    )


def time_plot(folder: Path, found: LoadResult, steps: Sequence[Step], limit_ms: float) -> Path:
    """Median and slowest request of each moment, with where the steps begin."""
    end = float(found.at_s.max(initial=0.0)) + 1e-9
    edges = np.linspace(0.0, end, BINS + 1)
    parts = [found.due(a, b) for a, b in pairwise(edges)]
    shown = [(at, part) for at, part in zip(edges[:-1], parts, strict=True) if part.requests]
    names = [(step.start, step.name) for step in _runs(steps) if step.start < end]
    return plots.series(
        folder / "time.png",
        [float(at) for at, _ in shown],
        {
            "median": ([float(np.median(part.latency_ms)) for _, part in shown], None, None),
            "slowest": ([float(part.latency_ms.max()) for _, part in shown], None, None),
        },
        "Latency of the requests due at each moment",
        "ms (logarithmic)",
        names,
        {f"limit, {limit_ms:g} ms": limit_ms},
        xlabel="seconds",
        log=True,
    )


def _table(steps: Sequence[Carried]) -> str:
    columns = ["step", "offered / s", "answered / s", "requests", "errors", "p50 ms", "p95 ms", "p99 ms"]
    rows = [
        [
            one.name,
            f"{one.rate:,.0f}",
            f"{one.throughput:,.0f}",
            one.requests,
            one.errors,
            *(f"{value:,.1f}" for value in (one.p50, one.p95, one.p99, one.closed_loop_p99)),
            f"{one.in_time:.1%}",
            "yes" if one.kept_up else "no",
        ]
        for one in steps
    ]
    return page.table([*columns, "p99, closed loop", "in time", "carried"], rows)


def _mark(steps: Sequence[Carried]) -> list[tuple[float, str]]:
    found = knee(steps)
    return [(found, f"knee: {found:,.0f} / s")] if found else []


def _runs(steps: Sequence[Step]) -> list[Step]:
    """The first of the steps that follow each other with the same name."""
    return [step for step, before in zip(steps, [None, *steps], strict=False) if _is_new(step, before)]


def _is_new(step: Step, before: Step | None) -> bool:
    return before is None or before.name != step.name
