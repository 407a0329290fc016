"""What faults and changes cost callers: a real gateway and replicas under load, on loopback.

    python -m tests.benchmarks.faults

Each is done several times while callers ask without a pause, and not before all is as it should be again.
Printed are the requests that were asked and that failed meanwhile, how long it took, and the goal; it exits
with 1 if one is missed. The callers take most of a small machine; seconds are an upper bound.
"""

from __future__ import annotations

import signal
import statistics
import sys
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
from tests.benchmarks.victims import send
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import ONE, TWO, Load, Local, local, wait

from sevenfold.cluster import Deployment
from sevenfold.gateway import Traffic
from sevenfold.local.supervision import RUNNING

TRIES = 10
GATEWAY_BACK_S = 2.0
INFER = "/v2/models/tiny/infer"
generations = count(1)


@dataclass
class Found:
    """What one kind of fault cost over all its tries."""

    asked: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """What happens: it yields the seconds until something was as it should be, `until`."""

    happens: Callable[[Local], Iterator[float]]
    until: str
    seconds: float | None = None
    """At most so many are promised, and meanwhile requests fail; without, no request may fail."""

    @property
    def goal(self) -> str:
        """What is promised."""
        return "0 failed" if self.seconds is None else f"<= {self.seconds:g} s"

    def met(self, found: Found) -> bool:
        """Whether it was kept in every try."""
        return found.failed == 0 if self.seconds is None else max(found.seconds) <= self.seconds


def main() -> int:
    """Runs every fault and prints the table; 0 if all goals are met."""
    table = Table(
        "what happened", "tries", "requests", "failed", "median s", "longest s", "until", "goal", ""
    )
    missed = 0
    with tempfile.TemporaryDirectory() as home, local(Path(home)) as stack:
        stack.cluster.deploy(Deployment("tiny", ONE, "champion", 2))
        stack.cluster.deploy(Deployment("tiny", TWO, "challenger", 2))
        for name, fault in FAULTS.items():
            split(stack, ONE)
            found = measured(stack, fault)
            met = fault.met(found)
            missed += not met
            middle, longest = statistics.median(found.seconds), max(found.seconds)
            numbers = (f"{len(found.seconds)}", f"{found.asked:,}", f"{found.failed:,}")
            seconds = (f"{middle:.3f}", f"{longest:.3f}")
            table.add_row(name, *numbers, *seconds, fault.until, fault.goal, "met" if met else "MISSED")
    Console(width=130).print(table)
    return int(missed > 0)


def measured(stack: Local, fault: Fault) -> Found:
    """What a fault costs."""
    found = Found()
    for _ in range(TRIES):
        with Load(stack, callers=4) as load:
            load.wait(50)
            found.seconds += list(fault.happens(stack))
            load.wait(50, 60)
        found.asked += load.answers.total() + len(load.failures)
        found.failed += len(load.failures)
    return found


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
    send(signal.SIGKILL, victim, stack.settings.home)
    began = time.monotonic()
    wait(lambda: victim not in pids(stack) and whole(stack), 60)
    yield time.monotonic() - began


def replica_hung(stack: Local) -> Iterator[float]:
    """One of two replicas says nothing any more."""
    victim = champion(stack)
    send(signal.SIGSTOP, victim, stack.settings.home)
    began = time.monotonic()
    wait(lambda: stack.gateway.envoy.healthy()[f"{ONE}.live"] == 1)
    yield time.monotonic() - began
    time.sleep(1)
    send(signal.SIGCONT, victim, stack.settings.home)
    wait(lambda: whole(stack), 60)


def gateway_killed(stack: Local) -> Iterator[float]:
    """Envoy dies. What is asked while it is away cannot be answered; what counts is how soon it is back."""
    send(signal.SIGKILL, stack.supervisor.program("gateway").pid, stack.settings.home)
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
    """Whether all is as it should be: every process counts as started, the replicas say that they are ready,
    and the gateway knows both of the champion's as healthy.

    The gateway alone does not tell: it has not always noticed yet that one is dead, and what is killed next
    would be the other one. Who dies again before it counts as started is started later and later.
    """
    envoy = stack.gateway.envoy
    return (
        all(program.state == RUNNING for program in stack.supervisor.status())
        and all(replica.ready for replica in stack.cluster.status())
        and envoy.running()
        and envoy.healthy()[f"{ONE}.live"] == 2
    )


FAULTS = {
    "a share is changed": Fault(changed, "the gateway has it"),
    "traffic goes back": Fault(rolled_back, "the other one answers"),
    "a replica is killed": Fault(replica_killed, "it is back"),
    "a replica hangs": Fault(replica_hung, "it is ejected"),
    "the gateway is killed": Fault(gateway_killed, "it serves its last split", GATEWAY_BACK_S),
}

if __name__ == "__main__":
    sys.exit(main())
