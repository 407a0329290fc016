"""One real stack for all end-to-end tests, on free ports and in a new folder."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sevenfold.demo.performance import play_days
from sevenfold.demo.story import Narrator, origin_run
from sevenfold.evidence.store import Store, open_store
from sevenfold.local import stack
from sevenfold.local.airflow_client import AirflowClient
from sevenfold.model.spec import load_spec
from sevenfold.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MODEL = "flight_delay"
AS_OF = "2013-03-15"
"""Trains on six weeks, tests on three: small, and real."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Beside each other run the tests that share the stack, in their order, and those of Airflow alone.

    (The mark for that, xdist_group, does nothing: xdist 3.8 writes where pytest 9.2 does not read any more.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatRuns(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "airflow" if "test_embedded.py" in nodeid else "stack"

    return ByWhatRuns(config, log)


@dataclass(frozen=True)
class Stack:
    """A running stack, the command line that belongs to it, and its two users."""

    settings: Settings
    environment: dict[str, str]
    store: Store

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `sevenfold <arguments>` against this stack."""
        done = subprocess.run(
            [sys.executable, "-m", "sevenfold.cli", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        if check and done.returncode:
            raise AssertionError(f"sevenfold {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def airflow(self, user: str) -> AirflowClient:
        """Airflow's API as one of its users."""
        return stack.airflow(self.settings, user)


def free_ports(count: int) -> list[int]:
    """Ports on loopback below the range that systems give to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, started by its own command and stopped by it."""
    home = tmp_path_factory.mktemp("sevenfold")
    ports = free_ports(3)
    own = {
        "SEVENFOLD_HOME": str(home),
        "SEVENFOLD_AIRFLOW_URL": f"http://127.0.0.1:{ports[0]}",
        "SEVENFOLD_MLFLOW_URL": f"http://127.0.0.1:{ports[1]}",
        "SEVENFOLD_GATEWAY_URL": f"http://127.0.0.1:{ports[2]}",
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("SEVENFOLD_", "AIRFLOW"))
    }
    environment = {
        **inherited,
        **own,
        "PYTHONPATH": f"{ROOT / 'include'}:{ROOT / 'plugins'}",
        "OMP_NUM_THREADS": "1",
    }
    settings = Settings(
        home=home,
        airflow_url=own["SEVENFOLD_AIRFLOW_URL"],
        mlflow_url=own["SEVENFOLD_MLFLOW_URL"],
        gateway_url=own["SEVENFOLD_GATEWAY_URL"],
    )
    store = open_store(settings.evidence_url, settings.secrets / "evidence")
    here = Stack(settings, environment, store)
    try:
        here.run("up")
        yield here
    finally:
        here.run("down")


@pytest.fixture(scope="session")
def narrator(running: Stack) -> Narrator:
    here = running.settings
    return Narrator(
        spec=load_spec(MODEL),
        store=running.store,
        settings=here,
        requester=running.airflow("admin"),
        approver=running.airflow("approver"),
        player=lambda start, end: play_days(MODEL, here, start, end, lambda line: None),
        console=Console(width=160),
        approve_after=1.0,
    )


@pytest.fixture(scope="session")
def carried(narrator: Narrator) -> str:
    """The candidate that went all the way, by its own merit.

    While tests look at what it has left, training begins with one that is broken.
    """
    narrator.begin_on(date.fromisoformat(AS_OF))
    narrator.start("development", "path", as_of=AS_OF, reason="a slice for a test", sample_rows=4000)
    end = narrator.follow(origin_run("path"), goal="production")
    assert end.state == "promoted", f"{end.id} was {end.state}: {end.outcome}"
    assert end.candidate is not None
    broken = {"hyperparameters": {"learning_rate": 2.0}, "search_trials": 0, "reason": "mistyped"}
    narrator.start("training", "broken", as_of=AS_OF, **broken)
    return end.candidate
