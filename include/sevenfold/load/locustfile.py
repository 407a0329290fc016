"""What Locust runs: a fixed schedule of requests, each timed from when it was meant to leave.

Locust's own pacing waits for the answer before it plans the next request, which hides stalls (coordinated
omission): with a server stopped for one second of a minute it reports a p99 of 20 ms where the callers of an
open system see 900. Here each request has its time; the users share the schedule like the cards of a deck,
and a user that is late sends at once and its lateness counts.

Reads the plan named by SEVENFOLD_LOAD_PLAN; writes to the plan's `samples` one row a request: seconds from
the start to due, from due to answered, from sent to answered, status, kind.
"""
# mypy: disable-error-code="import-untyped, untyped-decorator"

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, constant, events, task  # noqa: TID253 - this file is Locust's own process
from locust.exception import StopUser  # noqa: TID253

PLAN: dict[str, Any] = json.loads(Path(os.environ["SEVENFOLD_LOAD_PLAN"]).read_text())
KINDS: list[dict[str, Any]] = PLAN["kinds"]
DUE: list[float] = PLAN["due"]
KIND: list[int] = PLAN["kind"]
SAMPLES: dict[int, tuple[float, float, int]] = {}
"""Request index -> seconds from due to answered, seconds on the wire, status."""


class Scheduled(FastHttpUser):
    """User i of n sends the requests i, i + n, i + 2n, ... of the schedule."""

    host = PLAN["host"]
    wait_time = constant(0)
    connection_timeout = network_timeout = PLAN["timeout_s"]
    started: ClassVar[float | None] = None
    places: ClassVar[int] = 0

    def on_start(self) -> None:
        """Takes a place in the schedule; the first user to come sets its start."""
        if Scheduled.started is None:
            Scheduled.started = time.perf_counter() + PLAN["lead_s"]
        self.next = Scheduled.places
        Scheduled.places += 1

    @task
    def send(self) -> None:
        """Waits for the next due request, sends it, and counts its time from when it was due."""
        if self.next >= len(DUE):
            raise StopUser
        index, self.next = self.next, self.next + PLAN["users"]
        kind = KINDS[KIND[index]]
        body = kind["bodies"][index % len(kind["bodies"])]
        due = due_at(index)
        gevent.sleep(max(0.0, due - time.perf_counter()))
        sent = time.perf_counter()
        if DUE[index] >= PLAN["explore_from"] and sent - due > PLAN["behind_s"]:
            gevent.spawn(self.environment.runner.quit)
            raise StopUser
        with self.client.post(
            kind["path"], data=body, headers=PLAN["headers"], name=kind["name"], catch_response=True
        ) as response:
            done = time.perf_counter()
            response.request_meta["response_time"] = (done - due) * 1e3
        SAMPLES[index] = (done - due, done - sent, response.status_code or 0)
        if len(SAMPLES) == len(DUE):
            gevent.spawn(self.environment.runner.quit)


def due_at(index: int) -> float:
    """The moment at which request `index` has to leave."""
    return (Scheduled.started or 0.0) + DUE[index]


@events.quitting.add_listener
def write(**_: Any) -> None:
    """Leaves one row a request that was due; one that was never answered has waited until now, status 0."""
    now = time.perf_counter()
    rows = []
    for index in range(len(DUE)):
        if index not in SAMPLES and DUE[index] >= PLAN["explore_from"] and due_at(index) > now:
            break  # the ramp ended before
        latency, service, status = SAMPLES.get(index) or (max(0.0, now - due_at(index)), 0.0, 0)
        rows.append((DUE[index], latency, service, status, KIND[index]))
    Path(PLAN["samples"]).write_text(json.dumps(rows))
