"""What faults and changes cost callers: a real gateway and replicas under load, on loopback.

    python -m tests.benchmarks.faults

Each is done several times while callers ask without a pause. Printed are the requests that were asked and
that failed meanwhile, and how long it took until everything was as it should be. The callers take most of a
small machine; seconds are an upper bound.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import ONE, TWO, Load, Local, local, wait

from sevenfold.cluster import Deployment
from sevenfold.gateway import Traffic

TRIES = 5
INFER = "/v2/models/tiny/infer"
generations = count(1)


@dataclass
class Found:
    """What one kind of fault cost over all its tries."""

    asked: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Runs every fault and prints the table."""
    table = Table("what happened", "tries", "requests", "failed", "median s", "longest s", "until", width=110)
    with tempfile.TemporaryDirectory() as home, local(Path(home)) as stack:
        stack.cluster.deploy(Deployment("tiny", ONE, "champion", 2))
        stack.cluster.deploy(Deployment("tiny", TWO, "challenger", 2))
        for name, (fault, until) in FAULTS.items():
            split(stack, ONE)
            found = Found()
            for _ in range(TRIES):
                with Load(stack, callers=4) as load:
                    load.wait(50)
                    found.seconds += list(fault(stack))
                    load.wait(50, 60)
                found.asked += load.answers.total() + len(load.failures)
                found.failed += len(load.failures)
            middle, longest = statistics.median(found.seconds), max(found.seconds)
            numbers = (f"{len(found.seconds)}", f"{found.asked:,}", f"{found.failed}")
            table.add_row(name, *numbers, f"{middle:.3f}", f"{longest:.3f}", until)
    Console(width=110).print(table)


def split(stack: Local, champion: str, challenger: str | None = None, share: float = 0.0) -> None:
    """Makes this the split."""
    stack.gateway.apply(Traffic("tiny", champion, challenger, share=share, generation=next(generations)))


def changed(stack: Local) -> Iterator[float]:
    """A challenger's share goes up and down."""
    for share in (0.05, 0.25, 0.5, 1.0, 0.0):
        began = time.monotonic()
        split(stack, ONE, TWO, share)
        yield time.monotonic() - began


def rolled_back(stack: Local) -> Iterator[float]:
    """All requests go back from one candidate to the other."""
    split(stack, TWO, ONE)
    time.sleep(0.5)
    began = time.monotonic()
    split(stack, ONE, TWO)
    wait(lambda: who(stack) == ONE)
    yield time.monotonic() - began


def replica_killed(stack: Local) -> Iterator[float]:
    """One of two replicas dies."""
    victim = champion(stack)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    wait(lambda: whole(stack) and victim not in pids(stack), 60)
    yield time.monotonic() - began


def replica_hung(stack: Local) -> Iterator[float]:
    """One of two replicas says nothing any more."""
    victim = champion(stack)
    os.kill(victim, signal.SIGSTOP)
    began = time.monotonic()
    wait(lambda: stack.gateway.envoy.healthy()[f"{ONE}.live"] == 1)
    yield time.monotonic() - began
    time.sleep(1)
    os.kill(victim, signal.SIGCONT)
    wait(lambda: whole(stack), 60)


def gateway_killed(stack: Local) -> Iterator[float]:
    """Envoy dies. What is asked while it is away cannot be answered; what counts is how soon it is back."""
    gateway = stack.supervisor.program("gateway").pid
    if not gateway:  # signalling process 0 would end this benchmark itself
        raise SystemExit("the gateway does not run, so it cannot be killed")
    os.kill(gateway, signal.SIGKILL)
    began = time.monotonic()
    time.sleep(0.05)
    wait(lambda: who(stack) == ONE, 30)
    yield time.monotonic() - began
    wait(lambda: whole(stack), 30)


def who(stack: Local) -> str | None:
    """Which candidate answers."""
    with suppress(httpx.HTTPError), stack.client() as client:
        return client.post(INFER, json=tiny.request(1)).headers.get("x-candidate")
    return None


def champion(stack: Local) -> int:
    """The process of a replica of the champion."""
    return next(
        replica.pid for replica in stack.cluster.status() if replica.slot == "champion" and replica.pid
    )


def pids(stack: Local) -> set[int]:
    """The processes of all replicas."""
    return {replica.pid for replica in stack.cluster.status()}


def whole(stack: Local) -> bool:
    """Whether the gateway knows both replicas of the champion as healthy."""
    return stack.gateway.envoy.running() and stack.gateway.envoy.healthy()[f"{ONE}.live"] == 2


FAULTS: dict[str, tuple[Callable[[Local], Iterator[float]], str]] = {
    "a share is changed": (changed, "the gateway has it"),
    "traffic goes back": (rolled_back, "the other one answers"),
    "a replica is killed": (replica_killed, "it is back"),
    "a replica hangs": (replica_hung, "it is ejected"),
    "the gateway is killed": (gateway_killed, "its last split is served again"),
}

if __name__ == "__main__":
    main()
