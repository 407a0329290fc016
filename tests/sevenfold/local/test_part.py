"""Parts of the stack, each on its own as Docker runs them, find each other by the folder that they share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sevenfold.gateway.envoy import EnvoyDown
from sevenfold.gateway.local import Gateway
from sevenfold.local.supervision import Program, Supervisor
from sevenfold.settings import Settings
from sevenfold.trials.mirror import free_port

ENOUGH_S = 60.0


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        gateway_plain=True,
        gateway_url=f"http://0.0.0.0:{free_port()}",
        evidence_url=f"sqlite:///{tmp_path}/evidence.db",
    )


def command(here: Settings, part: str) -> subprocess.Popen[str]:
    variables = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SEVENFOLD_HOME": str(here.home),
        "SEVENFOLD_GATEWAY_URL": here.gateway_url,
        "SEVENFOLD_GATEWAY_PLAIN": "true",
        "SEVENFOLD_EVIDENCE_URL": here.evidence_url,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "sevenfold.local.part", part],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def running(here: Settings, part: str, answers: Callable[[], bool]) -> Iterator[None]:
    """A part from when it answers until it has ended by SIGTERM, well."""
    process = command(here, part)
    try:
        until = time.monotonic() + ENOUGH_S
        while not answers():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until, f"{part} does not answer"
            time.sleep(0.1)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENOUGH_S) == 0, process.communicate()[0]
    finally:
        process.kill()
        process.wait()


def test_what_one_part_does_the_others_see(here: Settings) -> None:
    for _ in range(2):
        prepared = command(here, "prepare")
        assert prepared.wait(ENOUGH_S) == 0, prepared.communicate()[0]
    assert {path.name for path in here.secrets.glob("*.json")} == {
        *("airflow.json", "gateway_keys.json", "gateway_tokens.json"),
    }
    supervisor = Supervisor(here.home)
    gateway = Gateway(here, list)
    with running(here, "replicas", supervisor.running):
        supervisor.add(Program("one", (sys.executable, "-c", "import time; time.sleep(600)")))
        pid = supervisor.program("one").pid
        with running(here, "gateway", lambda: answers(here.gateway_url)):
            gateway.refresh()
            assert gateway.envoy.running()
    assert not Path(f"/proc/{pid}").exists(), "what it ran ends with it"
    with pytest.raises(EnvoyDown):
        gateway.envoy.stats("server.live")
    again = Supervisor(here.home)
    with running(here, "replicas", lambda: again.running() and again.program("one").state == "RUNNING"):
        pass


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_a_part_that_there_is_not_is_named(here: Settings) -> None:
    refused = command(here, "router")
    said, _ = refused.communicate(timeout=ENOUGH_S)
    assert refused.returncode == 1
    assert said.startswith("the stack has no part router: it has airflow, gateway, ")
