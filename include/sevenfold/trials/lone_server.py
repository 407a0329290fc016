"""One server of one candidate, started for a check on loopback, watched as a process, and ended with it."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sevenfold.cluster.local import PORTS, SERVER, is_free
from sevenfold.errors import SevenfoldError

START_S = 60.0
POLL_S = 0.02


class DidNotStart(SevenfoldError):
    """A server that ended or did not become ready, with the last line that it said."""


@dataclass(frozen=True)
class LoneServer:
    """A running server: where it answers, its process, and what it took until it was ready."""

    url: str
    port: int
    process: psutil.Process
    seconds: float
    """From its start until it was ready, on the wall's clock."""
    start_cpu_seconds: float
    """What it computed until then."""

    @property
    def cpu_seconds(self) -> float:
        """What the process has computed since it was started."""
        return _cpu(self.process)

    @property
    def resident_mib(self) -> float:
        """Memory that the process holds now."""
        return float(self.process.memory_info().rss) / 2**20


def server_of(model: str, candidate: str) -> list[str]:
    """The command of the real server of a candidate that has reached testing."""
    return [*SERVER, "--model", model, "--candidate", candidate, "--slot", "testing", "--drain", "0"]


@contextmanager
def started(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[LoneServer]:
    """Runs `command` with a free port of loopback and its logs in `folder`, until the block ends.

    `variables` are set for it beside those of this process.

    Raises:
        DidNotStart: it ended or did not become ready.
    """
    port = next(port for port in iter(lambda: random.randrange(*PORTS), None) if is_free(port))  # noqa: S311
    said = folder / "server.log"
    began = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--log-dir", str(folder)],
            stdout=output,
            stderr=output,
            env={**os.environ, **(variables or {})},
        )
    try:
        while not _ready(f"http://127.0.0.1:{port}"):
            if process.poll() is not None or time.monotonic() > began + START_S:
                lines = said.read_text(errors="replace").strip().splitlines()
                raise DidNotStart(f"the server did not start: {lines[-1] if lines else 'it said nothing'}")
            time.sleep(POLL_S)
        watched = psutil.Process(process.pid)
        seconds, cpu = time.monotonic() - began, _cpu(watched)
        yield LoneServer(f"http://127.0.0.1:{port}", port, watched, seconds, cpu)
    finally:
        process.kill()
        process.wait()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ready(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=1, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
