"""Steady load on the public route, every request accounted for: what was asked, what was said, by whom."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

import httpx
from tests.activities.small_world import AS_OF, MODEL
from tests.benchmarks.chaos.world import ChaosWorld

from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.gateway import local_gateway
from sevenfold.model.spec import load_spec
from sevenfold.trials.asking import bodies

RATE = 25.0
"""Requests a second."""
LIMIT_S = 15.0
"""Longer than the gateway takes with all its retries: no answer by then is none at all."""
ROWS = 200
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Said:
    """The end of one request. Status 0: the connection failed; -1: nothing came within the limit."""

    at: float
    row: int
    seconds: float
    status: int
    candidate: str
    value: float | None
    sentence: str


class Load:
    """Asks from `start()` to `stop()`, on a schedule that no answer holds up."""

    def __init__(self, world: ChaosWorld) -> None:
        self._world = world
        spec = load_spec(MODEL, world.settings.models)
        rows = snapshot(spec, world.settings.data).rows(AS_OF - timedelta(days=5), AS_OF)
        self._rows = rows.slice(0, ROWS)
        self._bodies = list(bodies(spec, self._rows, 1))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._expected: dict[str, list[float]] = {}
        self.asked = 0
        self.said: list[Said] = []

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Asks no more, and waits for every answer."""
        self._stop.set()
        self._thread.join()

    def wrong(self, said: Said) -> str | None:
        """What is wrong with an answer of 200: nobody's, or not what its candidate computes."""
        if said.candidate not in self._expected:
            candidate = self._world.store.candidate(said.candidate)
            scorer = Scorer(self._world.artifacts.get(candidate.model_digest))
            self._expected[said.candidate] = [float(p) for p in scorer.predict(self._rows)]
        expected = self._expected[said.candidate][said.row]
        if said.value is None or not abs(said.value - expected) <= TOLERANCE:
            return f"{said.candidate} answered row {said.row} with {said.value}, it computes {expected}"
        return None

    async def _run(self) -> None:
        token = local_gateway().keys.token("chaos", ["predict"], timedelta(hours=3))
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        limits = httpx.Limits(max_connections=200)
        url = f"{self._world.settings.gateway_url}/v2/models/{MODEL}/infer"
        waiting: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(
            headers=headers, timeout=LIMIT_S, limits=limits, trust_env=False
        ) as client:
            started = time.monotonic()
            while not self._stop.is_set():
                task = asyncio.create_task(self._ask(client, url, self.asked % len(self._bodies)))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                self.asked += 1
                await asyncio.sleep(max(0.0, started + self.asked / RATE - time.monotonic()))
            await asyncio.gather(*waiting)

    async def _ask(self, client: httpx.AsyncClient, url: str, row: int) -> None:
        at, started = time.time(), time.monotonic()
        status, candidate, value, sentence = 0, "", None, ""
        try:
            answer = await client.post(url, content=self._bodies[row])
            status, candidate = answer.status_code, answer.headers.get("x-candidate", "")
            said = answer.json()
            value = float(said["outputs"][0]["data"][0]) if status == 200 else None
            sentence = str(said.get("error", ""))
        except httpx.TimeoutException:
            status = -1
        except httpx.HTTPError as error:
            sentence = type(error).__name__
        except (json.JSONDecodeError, KeyError, IndexError, ValueError) as error:
            sentence = f"unreadable: {error}"
        took = time.monotonic() - started
        self.said.append(Said(at, row, took, status, candidate, value, sentence))
