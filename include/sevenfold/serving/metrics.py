"""What Prometheus reads from one server process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters of one candidate in one slot."""

    def __init__(self, model: str, candidate: str, slot: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        names = ("model", "candidate", "slot")
        values = (model, candidate, slot)
        self._requests = Counter(
            "sevenfold_requests", "Requests by status", (*names, "code"), registry=self._registry
        )
        self._rows = Counter("sevenfold_rows", "Rows answered", names, registry=self._registry).labels(
            *values
        )
        self._seconds = Histogram(
            "sevenfold_request_seconds",
            "Service time of answered requests",
            names,
            buckets=SECONDS,
            registry=self._registry,
        ).labels(*values)
        self._lost = Counter(
            "sevenfold_log_lines_lost",
            "Answers or labels that the log could not take",
            names,
            registry=self._registry,
        ).labels(*values)
        self._ready = Gauge("sevenfold_ready", "1 while ready", names, registry=self._registry).labels(
            *values
        )
        self._by_code = {
            code: self._requests.labels(*values, str(code))
            for code in (200, 400, 404, 405, 413, 415, 500, 503)
        }

    def answered(self, code: int, rows: int = 0, seconds: float | None = None) -> None:
        """Counts one request, and its rows and service time if it was answered with a prediction."""
        self._by_code[code].inc()
        if seconds is not None:
            self._rows.inc(rows)
            self._seconds.observe(seconds)

    def lost(self) -> None:
        """Counts a line that the log could not take."""
        self._lost.inc()

    def ready(self, ready: bool) -> None:
        """Says whether this process wants traffic."""
        self._ready.set(ready)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
