"""resources: what does it cost to run? Start, memory, size, CPU and latency of the real server process."""

from __future__ import annotations

import http.client
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.errors import SevenfoldError
from sevenfold.gates.rules.bounds import of_quantile
from sevenfold.reports import page
from sevenfold.trials import asking
from sevenfold.trials.lone_server import LoneServer, server_of, started

BATCHES = (1, 64)
"""Rows of a request: one caller's question, and a full one of the player's."""
LEAST_CPU_S, FEWEST, LONGEST_S = 0.4, 60, 6.0
"""Requests go on until the server has computed so long (the system counts CPU in hundredths of a second), and
at least so many; but no longer than so many seconds, for a slow candidate must not keep the pipeline."""
DIFFERENT = 16
"""Bodies asked in turn, so that no answer can be a remembered one."""


@dataclass(frozen=True)
class Burst:
    """Requests of one size, one after the other: CPU ms of the server a request, their latencies in ms."""

    rows: int
    requests: int
    cpu_ms: float
    milliseconds: tuple[float, ...]

    def latency(self, quantile: float) -> tuple[float, float, float]:
        """The quantile of the latencies with its 95 % limits, in ms; the extremes where there are none."""
        low, high = of_quantile(self.milliseconds, quantile, 0.025)
        values = np.sort(self.milliseconds)
        return float(np.quantile(values, quantile)), max(low, values[0]), min(high, values[-1])


def main(activity: Activity) -> None:
    """Measures what a replica of the candidate costs, each as one reading."""
    spec = activity.spec
    file = activity.model_file(activity.candidate)
    window = windows(spec, activity.promotion.as_of).test
    columns = ["id", "time", *spec.columns]
    rows = snapshot(spec, activity.settings.data, activity.progress).rows(*window, spec.columns)
    rows = rows.select(columns).slice(0, DIFFERENT * max(BATCHES))
    with (
        tempfile.TemporaryDirectory() as folder,
        started(server_of(spec.name, activity.candidate.id), Path(folder)) as server,
    ):
        activity.progress(
            f"ready after {server.seconds:.2f} s, of them {server.start_cpu_seconds:.2f} s of CPU"
        )
        bursts = []
        for size in BATCHES:
            with activity.phase(f"requests of {size} rows"):
                bodies = list(asking.bodies(spec, rows.slice(0, DIFFERENT * size), size))
                bursts.append(burst(server, f"/v2/models/{spec.name}/infer", bodies, size))
        memory = server.resident_mib
    one, many = bursts
    size_mib = file.stat().st_size / 2**20
    activity.measure("model_size", size_mib, unit="MiB", n=1)
    activity.measure("cold_start", server.start_cpu_seconds, unit="CPU s", n=1)
    activity.measure("memory", memory, unit="MiB", n=1)
    activity.measure("cpu_per_request", one.cpu_ms, unit="CPU ms", n=one.requests)
    activity.measure("cpu_per_row", many.cpu_ms / many.rows, unit="CPU ms", n=many.requests * many.rows)
    for of in bursts:
        value, low, high = of.latency(0.5)
        activity.measure(f"median_latency_of_{of.rows}", value, unit="ms", n=of.requests, low=low, high=high)
    activity.report(
        "resources.html", report(activity, server, bursts, size_mib, memory), "What a replica costs"
    )


def burst(server: LoneServer, path: str, bodies: list[bytes], rows: int) -> Burst:
    """Asks one request after the other over one connection.

    Raises:
        SevenfoldError: a request was not answered with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    waiting = cycle(bodies)

    def ask() -> float:
        began = time.perf_counter()
        connection.request("POST", path, next(waiting), {"content-type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        if response.status != 200:
            raise SevenfoldError(f"the server answers {rows} real rows with {response.status} {said[:200]!r}")
        return (time.perf_counter() - began) * 1e3

    for _ in range(3):  # the connection, and whatever the first requests of a size prepare
        ask()
    taken: list[float] = []
    before, until = server.cpu_seconds, time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        taken.append(ask())
        if len(taken) >= FEWEST and len(taken) % 20 == 0 and server.cpu_seconds - before >= LEAST_CPU_S:
            break
    used = server.cpu_seconds - before
    connection.close()
    return Burst(rows, len(taken), used / len(taken) * 1e3, tuple(taken))


def report(
    activity: Activity, server: LoneServer, bursts: list[Burst], size_mib: float, memory_mib: float
) -> str:
    """A page with what was measured, and what it means for the promised rate."""
    sla, one = activity.spec.serving.sla, bursts[0]
    cores = sla.rate * one.cpu_ms / 1e3
    cells: list[list[object]] = [
        ["model file", f"{size_mib:.3f} MiB"],
        ["cold start, wall", f"{server.seconds:.2f} s"],
        ["cold start, CPU", f"{server.start_cpu_seconds:.2f} s"],
        ["resident memory after all requests", f"{memory_mib:.0f} MiB"],
    ]
    by_size = [
        [of.rows, of.requests, of.cpu_ms, of.cpu_ms / of.rows, *(of.latency(q)[0] for q in (0.5, 0.95, 0.99))]
        for of in bursts
    ]
    columns = ["rows a request", "requests", "CPU ms a request", "CPU ms a row", "p50 ms", "p95 ms", "p99 ms"]
    return page.page(
        f"{activity.spec.title}: what a replica costs",
        page.text(
            f"Candidate {activity.candidate.id}, one server process, asked over one connection. The promised "
            f"{sla.rate:g} requests a second would keep {cores:.2f} cores busy, spread over "
            f"{activity.spec.serving.replicas} replicas.",
        ),
        page.table(["", "measured"], cells),
        page.table(columns, by_size),
        page.text(
            "Latencies are those of a caller on the same machine, of real rows, one after the other: a "
            "floor, no load test. CPU is the server's own, log line and JSON included."
        ),
    )


if __name__ == "__main__":
    run(main)
