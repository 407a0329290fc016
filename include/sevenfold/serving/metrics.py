"""What Prometheus reads from one server process.

Counting is a few additions: the metrics are made of them when they are asked for, which is every few seconds,
and not with every request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from sevenfold.model.spec import Sla

SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_NAMES = ("model", "candidate", "slot")


class Metrics(Collector):
    """Counters of one candidate in one slot, and with `sla` what its model promises, for alerts."""

    def __init__(self, model: str, candidate: str, slot: str, sla: Sla | None = None) -> None:
        self._registry = CollectorRegistry()
        self._values, self._sla = (model, candidate, slot), sla
        self._requests = Counter[int]()
        self._rows = self._lost = 0
        self._buckets, self._seconds = [0] * (len(SECONDS) + 1), 0.0
        self._is_ready = False
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def answered(self, code: int, rows: int = 0, seconds: float | None = None) -> None:
        """Counts one request, and its rows and service time if it was answered with a prediction."""
        self._requests[code] += 1
        if seconds is not None:
            self._rows += rows
            self._seconds += seconds
            self._buckets[bisect_left(SECONDS, seconds)] += 1

    def lost(self) -> None:
        """Counts a line that the log could not take."""
        self._lost += 1

    def ready(self, ready: bool) -> None:
        """Says whether this process wants traffic."""
        self._is_ready = ready

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The counters as metrics."""
        requests = CounterMetricFamily("sevenfold_requests", "Requests by status", labels=(*_NAMES, "code"))
        for code, count in sorted(self._requests.items()):
            requests.add_metric((*self._values, str(code)), count)
        yield requests
        rows = CounterMetricFamily("sevenfold_rows", "Rows answered", labels=_NAMES)
        rows.add_metric(self._values, self._rows)
        yield rows
        seconds = HistogramMetricFamily(
            "sevenfold_request_seconds", "Service time of answered requests", labels=_NAMES
        )
        seconds.add_metric(self._values, _cumulated(self._buckets), self._seconds)
        yield seconds
        lost = CounterMetricFamily(
            "sevenfold_log_lines_lost", "Answers or labels that the log could not take", labels=_NAMES
        )
        lost.add_metric(self._values, self._lost)
        yield lost
        is_ready = GaugeMetricFamily("sevenfold_ready", "1 while ready", labels=_NAMES)
        is_ready.add_metric(self._values, float(self._is_ready))
        yield is_ready
        yield from self._promises()

    def _promises(self) -> Iterator[Metric]:
        if self._sla is None:
            return
        for name, promised, what in (
            ("error_rate", self._sla.error_rate, "Share of the requests that may fail"),
            ("p99_seconds", self._sla.p99_ms / 1000, "What 99 of 100 requests may take"),
        ):
            promise = GaugeMetricFamily(f"sevenfold_promised_{name}", what, labels=_NAMES)
            promise.add_metric(self._values, promised)
            yield promise


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus' buckets: each with how many were no slower."""
    bounds = [*(str(bound) for bound in SECONDS), "+Inf"]
    return list(zip(bounds, accumulate(counts), strict=True))
