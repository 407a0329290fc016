"""Our server against the floor: requests a second, p99 and CPU a request, on the same model and rows.

Eight kept connections ask as fast as they are answered. Rounds of floor and ours take turns, so that what
else the machine does falls on both; ratios are medians over the pairs. On a busy machine only the CPU can be
trusted: a process serves on one core, so the CPU a request is what limits it.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import psutil
import uvloop
from rich.console import Console
from rich.table import Table
from tests.benchmarks.serving import network

from sevenfold.cluster import is_free
from sevenfold.player.client import Connection
from sevenfold.settings import REPOSITORY

HERE = Path(__file__).parent
ROUNDS, CONNECTIONS = 9, 8
REQUESTS = {1: 1500, 64: 500}
THROUGHPUT, P99 = 0.8, 1.5
"""The goal: at least this part of the floor's throughput, at most this multiple of its p99."""


@dataclass(frozen=True)
class Round:
    """One round of one server."""

    rate: float
    p99_ms: float
    cpu_us: float


def main() -> None:
    """Prints one table for each number of rows."""
    for rows, requests in REQUESTS.items():
        with tempfile.TemporaryDirectory() as folder:
            tell(rows, compare(rows, requests, Path(folder)))


def compare(rows: int, requests: int, home: Path) -> dict[str, list[Round]]:
    """Rounds of both servers, in turns; the first of each warms up and is left out."""
    model = network.write(home / "network-1.onnx")
    ports = (port for port in range(26_000, 27_000) if is_free(port))
    floor_port, our_port = next(ports), next(ports)
    ours = [str(HERE / "network.py"), "--model", "network", "--candidate", "network-1"]
    floor = [str(HERE / "floor.py"), str(model)]
    rounds: dict[str, list[Round]] = {"floor": [], "ours": []}
    with (
        server([*floor, str(floor_port)], floor_port, home) as floor_pid,
        server([*ours, "--port", str(our_port)], our_port, home) as our_pid,
    ):
        for number in range(ROUNDS + 1):
            for name, port, pid in (("floor", floor_port, floor_pid), ("ours", our_port, our_pid)):
                measured = measure(port, pid, body(rows), requests)
                if number:
                    rounds[name].append(measured)
    return rounds


@contextmanager
def server(command: list[str], port: int, home: Path) -> Iterator[int]:
    """A server process that listens; yields its pid."""
    paths = f"{REPOSITORY / 'include'}:{REPOSITORY}"
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "SEVENFOLD_HOME": str(home)}
    with (home / "server.log").open("a") as log:
        started = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while is_free(port) and time.monotonic() < until:
            time.sleep(0.05)
        yield started.pid
    finally:
        started.kill()
        started.wait()


def body(rows: int) -> bytes:
    """A request as the player sends it."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, len(network.NUMERIC))).astype(np.float32)
    texts = [["a", "b", "c", "d", "e"]] * rows
    inputs = [
        {"name": "numeric", "shape": list(numbers.shape), "datatype": "FP32", "data": numbers},
        {"name": "categorical", "shape": [rows, 5], "datatype": "BYTES", "data": texts},
    ]
    parameters = {"ids": [f"row-{row}" for row in range(rows)], "time": "2013-06-01T05:00:00+00:00"}
    return orjson.dumps({"inputs": inputs, "parameters": parameters}, option=orjson.OPT_SERIALIZE_NUMPY)


def measure(port: int, pid: int, sent: bytes, requests: int) -> Round:
    """One round: `requests` requests over all connections."""
    before, began = cpu_seconds(pid), time.perf_counter()
    taken = uvloop.run(ask(port, sent, requests))
    seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - before
    return Round(requests / seconds, float(np.quantile(taken, 0.99)) * 1e3, cpu / requests * 1e6)


def cpu_seconds(pid: int) -> float:
    """CPU that a process and its children have used, by the scheduler's own count: ticks are too coarse."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    threads = [task for one in family for task in Path(f"/proc/{one.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


async def ask(port: int, sent: bytes, requests: int) -> list[float]:
    """Seconds that each answer took."""
    taken: list[float] = []
    numbers = iter(range(requests))

    async def work() -> None:
        connection = Connection(f"http://127.0.0.1:{port}", "none")
        for _ in numbers:
            began = time.perf_counter()
            status, _ = await connection.post("/v2/models/network/infer", sent)
            taken.append(time.perf_counter() - began)
            if status != 200:
                raise SystemExit(f"the server on port {port} answered {status}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return taken


def tell(rows: int, rounds: dict[str, list[Round]]) -> None:
    """Prints the medians, the ratios, and whether they meet the goal."""

    def middle(name: str, what: str) -> float:
        return statistics.median(getattr(one, what) for one in rounds[name])

    def ratio(what: str) -> float:
        pairs = zip(rounds["ours"], rounds["floor"], strict=True)
        return statistics.median(getattr(ours, what) / getattr(floor, what) for ours, floor in pairs)

    table = Table(title=f"{rows} rows a request, {CONNECTIONS} connections, {ROUNDS} rounds in turns")
    for title in ("server", "requests/s", "p99 ms", "CPU us a request"):
        table.add_column(title, justify="right")
    for name in rounds:
        rate, p99, cpu = (middle(name, what) for what in ("rate", "p99_ms", "cpu_us"))
        table.add_row(name, f"{rate:,.0f}", f"{p99:.2f}", f"{cpu:.0f}")
    table.add_row("ours / floor", f"{ratio('rate'):.2f}", f"{ratio('p99_ms'):.2f}", f"{ratio('cpu_us'):.2f}")
    table.add_row("goal", f">= {THROUGHPUT}", f"<= {P99}", f"<= {1 / THROUGHPUT:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
