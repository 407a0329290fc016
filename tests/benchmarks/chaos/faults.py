"""Kills, with SIGKILL and without warning, one process of the stack after the other."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
from tests.benchmarks.chaos.world import ChaosWorld
from tests.benchmarks.victims import NotOurs, send

from sevenfold.cluster import open_cluster
from sevenfold.local.supervision import Supervisor, UnknownProgram

PAUSE_S = (5.0, 15.0)
"""Between two kills."""


class Faults:
    """One kill every few seconds, what and when by the sequence's own chance, from `start()` to `stop()`."""

    def __init__(self, world: ChaosWorld, seed: int) -> None:
        self._world, self._random = world, random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.killed: Counter[str] = Counter()
        self.gateway_killed: list[float] = []
        """When the gateway was killed, in seconds since 1970."""
        self._kinds: dict[str, Callable[[], list[int]]] = {
            "replica": self._replicas,
            "gateway": lambda: self._program("gateway"),
            "reconciler": lambda: self._program("reconciler"),
            "scheduler": lambda: self._component("scheduler"),
            "triggerer": lambda: self._component("triggerer"),
            "task": self._tasks,
        }

    def start(self) -> None:
        """Begins to kill."""
        self._thread.start()

    def stop(self) -> None:
        """Kills no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*PAUSE_S)):
            kind = self._random.choice(sorted(self._kinds))
            with suppress(OSError, psutil.Error, UnknownProgram, NotOurs):
                found = self._kinds[kind]()
                if found:
                    if kind == "gateway":
                        self.gateway_killed.append(time.time())
                    send(signal.SIGKILL, self._random.choice(found), self._world.settings.home)
                    self.killed[kind] += 1

    def _replicas(self) -> list[int]:
        return [replica.pid for replica in open_cluster().status() if replica.pid]

    def _program(self, name: str) -> list[int]:
        pid = Supervisor(self._world.settings.home).program(name).pid
        return [pid] if pid else []

    def _component(self, name: str) -> list[int]:
        record = self._world.settings.home / "airflow" / "sessions.json"
        return [one["pid"] for one in json.loads(record.read_text()) if one["name"] == name]

    def _tasks(self) -> list[int]:
        """Pods of production: the activity itself, or the keeper that watches it."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = process.info["cmdline"] or []
            if any(word.startswith("activities.production.") for word in words):
                with suppress(psutil.Error):
                    if process.environ().get("SEVENFOLD_HOME") == str(self._world.settings.home):
                        found.append(process.info["pid"])
        return found
