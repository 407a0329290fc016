"""A real supervisord, replicas of the tiny model and a real Envoy, on free ports."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.sevenfold.serving import tiny

from sevenfold.cluster.local import LocalCluster, is_free
from sevenfold.gateway import Gateway
from sevenfold.local.supervision import Supervisor
from sevenfold.settings import Settings

ONE, TWO = "tiny-000000000001", "tiny-000000000002"
BIAS = {ONE: 0.0, TWO: 1.0}
REPLICA = (sys.executable, str(Path(tiny.__file__)), "--drain", "0.3")


class Local:
    """Supervisor, cluster and gateway of one home."""

    def __init__(self, home: Path, *more: str, tls: tuple[Path, Path] | None = None) -> None:
        port = gateway_port()
        certificate, key = tls or (None, None)
        self.settings = Settings(
            home=home,
            gateway_url=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
            gateway_certificate=certificate,
            gateway_key=key,
        )
        self.supervisor = Supervisor(home)
        self.cluster = LocalCluster(
            self.settings, self.supervisor, tiny.Passes, lambda: self.gateway.refresh(), (*REPLICA, *more)
        )
        self.gateway = Gateway(self.settings, self.cluster.deployments)
        for candidate, bias in BIAS.items():
            tiny.write(home / f"{candidate}.onnx", bias)

    def start(self) -> None:
        self.supervisor.start()
        self.supervisor.add(self.gateway.program())
        wait(self.gateway.envoy.running)

    def client(self, scope: str = "predict") -> httpx.Client:
        headers = {"authorization": f"Bearer {self.gateway.keys.standing()[scope]}"}
        return httpx.Client(base_url=self.settings.gateway_url, headers=headers, trust_env=False)


@contextmanager
def local(home: Path, *more: str, tls: tuple[Path, Path] | None = None) -> Iterator[Local]:
    """A running stack, whose replicas get `more` arguments, and its end."""
    running = Local(home, *more, tls=tls)
    try:
        running.start()
        yield running
    finally:
        running.supervisor.shutdown()


class Load:
    """Callers that ask without a pause, and count every answer."""

    def __init__(self, running: Local, callers: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._running, self._stop = running, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(callers)]

    def _ask(self, number: int) -> None:
        with self._running.client() as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v2/models/tiny/infer", json=tiny.request(1))
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    time.sleep(0.01)  # nobody is there: asking without a pause would only keep them away
                    continue
                if answer.status_code == 200:
                    self.answers[answer.json()["model_version"]] += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int, limit: float = 30.0) -> None:
        """Waits until `more` requests were answered from now on."""
        goal = self.answers.total() + more
        wait(lambda: self.answers.total() >= goal or len(self.failures) > 100, limit)


def wait(true: Callable[[], bool], limit: float = 20.0) -> None:
    until = time.monotonic() + limit
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def gateway_port() -> int:
    """A free port whose successor, for the statistics, is free too."""
    while True:
        port = random.randrange(12_000, 19_000)
        if is_free(port) and is_free(port + 1):
            return port
