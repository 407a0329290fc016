"""Our server against the floor and against peers: requests a second, p99 and CPU a request, on the same rows.

    python -m tests.benchmarks.serving [--quick]

Eight kept connections ask as fast as they are answered. Many short rounds of all servers take turns, so that
what else the machine does falls on all of them; ratios are medians over the rounds. On a busy machine only
the CPU can be trusted: a process serves on one core, so the CPU a request is what limits it. Peers are
installed in throw-away environments, which takes minutes; one that cannot be had is named with the reason.
`--quick` does without them. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import uvloop
from rich.console import Console
from rich.table import Table
from tests.benchmarks.serving import cold_start
from tests.benchmarks.serving.servers import FLOOR, OURS, PEERS, Server, Unavailable, running

from sevenfold.demo.player.client import Connection

ROUNDS, CONNECTIONS = 45, 8
REQUESTS = {1: 400, 64: 120}
SLOW = 5
"""Peers get this part fewer requests: they are several times slower."""
THROUGHPUT, P99, COLD_START_S = 0.8, 1.5, 3.0
"""The goal: this part of the floor's throughput at least, this multiple of its p99 at most, soon ready."""
console = Console(width=110)


@dataclass(frozen=True)
class Round:
    """One round of one server."""

    rate: float
    p99_ms: float
    cpu_us: float


Rounds = dict[str, list[Round]]


def main() -> int:
    """Prints a table for each number of rows, and how soon a replica is ready; 0 if all goals are met."""
    quick, met = "--quick" in sys.argv, True
    with ExitStack() as stack:
        where: dict[Server, tuple[int, int]] = {}
        missing: dict[str, str] = {}
        for server in (FLOOR, OURS, *(() if quick else PEERS)):
            console.print(f"[dim]starting {server.name}[/]")
            try:
                where[server] = stack.enter_context(running(server))
            except Unavailable as why:
                missing[server.name] = str(why)
        for rows, requests in REQUESTS.items():
            met &= tell(rows, compare(where, rows, requests), missing)
    seconds = cold_start.measure()
    middle, longest = statistics.median(seconds), max(seconds)
    console.print(
        f"from start to ready, evidence checked and model warmed up: median {middle:.2f} s, "
        f"longest of {len(seconds)} {longest:.2f} s (goal: {COLD_START_S} s, "
        f"{'met' if middle < COLD_START_S else 'MISSED'})"
    )
    return int(not (met and middle < COLD_START_S))


def compare(where: dict[Server, tuple[int, int]], rows: int, requests: int) -> Rounds:
    """Rounds of all servers, in turns; the first of each warms up and is left out."""
    rounds: Rounds = {server.name: [] for server in where}
    for number in range(ROUNDS + 1):
        for server, (port, pid) in where.items():
            count = requests if server in (FLOOR, OURS) else requests // SLOW
            measured = measure(port, pid, server.path, server.body(rows), count)
            if number:
                rounds[server.name].append(measured)
    return rounds


def measure(port: int, pid: int, path: str, sent: bytes, requests: int) -> Round:
    """One round: `requests` requests over all connections."""
    before, began = cpu_seconds(pid), time.perf_counter()
    taken = uvloop.run(ask(port, path, sent, requests))
    seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - before
    return Round(requests / seconds, float(np.quantile(taken, 0.99)) * 1e3, cpu / requests * 1e6)


def cpu_seconds(pid: int) -> float:
    """CPU that a process and its children have used, by the scheduler's own count: ticks are too coarse."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    threads = [task for one in family for task in Path(f"/proc/{one.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


async def ask(port: int, path: str, sent: bytes, requests: int) -> list[float]:
    """Seconds that each answer took."""
    taken: list[float] = []
    numbers = iter(range(requests))

    async def work() -> None:
        connection = Connection(f"http://127.0.0.1:{port}", "none")
        for _ in numbers:
            began = time.perf_counter()
            status, _ = await connection.post(path, sent)
            taken.append(time.perf_counter() - began)
            if status != 200:
                raise SystemExit(f"the server on port {port} answered {status}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return taken


def tell(rows: int, rounds: Rounds, missing: dict[str, str]) -> bool:
    """Prints the medians, each server's ratios to the floor, and whether ours meet the goal."""
    title = f"{rows} rows a request, {CONNECTIONS} connections, {ROUNDS} rounds in turns"
    table = Table(title=title)
    table.add_column("server")
    for name in ("requests/s", "p99 ms", "CPU us", "requests/s", "p99", "CPU"):
        table.add_column(name if name[0] != "r" or len(table.columns) < 4 else "rate", justify="right")
    for name, measured in rounds.items():
        middles = [statistics.median(getattr(one, what) for one in measured) for what in FORMS]
        ratios = [ratio(rounds, name, what) for what in FORMS]
        cells = [form.format(value) for form, value in zip(FORMS.values(), middles, strict=True)]
        table.add_row(name, *cells, *(f"{value:.2f} x" for value in ratios))
    table.add_row("goal for ours", "", "", "", f">= {THROUGHPUT} x", f"<= {P99} x", f"<= {1 / THROUGHPUT} x")
    console.print(table)
    for name, why in missing.items():
        console.print(f"{name} is not in the table: {why}", markup=False)
    met = ratio(rounds, "ours", "rate") >= THROUGHPUT and ratio(rounds, "ours", "p99_ms") <= P99
    behind = [name for name in rounds if name not in ("floor", "ours") and slower(rounds, name)]
    console.print(
        f"against the floor: {'met' if met else 'MISSED'}; peers that ours is not ahead of: {behind}\n"
    )
    return met and not behind


FORMS = {"rate": "{:,.0f}", "p99_ms": "{:.2f}", "cpu_us": "{:,.0f}"}


def ratio(rounds: Rounds, name: str, what: str, to: str = "floor") -> float:
    """Median over the rounds of one server's measurement as a multiple of another's."""
    pairs = zip(rounds[name], rounds[to], strict=True)
    return statistics.median(getattr(one, what) / getattr(other, what) for one, other in pairs)


def slower(rounds: Rounds, name: str) -> bool:
    """Whether ours answers no more requests a second than a peer, or has the higher p99."""
    return ratio(rounds, "ours", "rate", name) <= 1 or ratio(rounds, "ours", "p99_ms", name) >= 1


if __name__ == "__main__":
    sys.exit(main())
