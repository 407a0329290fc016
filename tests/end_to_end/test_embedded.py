"""The embedded Airflow as a process: starts, runs a pod, is killed, starts again, stops; nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.end_to_end.conftest import ROOT, free_ports
from tests.rail_world import World

from sevenfold.local.airflow_client import AirflowClient, AirflowError
from sevenfold.secrets import airflow_passwords
from sevenfold.settings import settings

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

DAG_FILE = """\
from airflow.sdk import DAG
from sevenfold_airflow.pod import PodOperator

with DAG("toy.quick", schedule=None):
    PodOperator(task_id="pod", image="any", cmds=["python", "-c", "print('hello from a pod')"])
with DAG("toy.slow", schedule=None):
    PodOperator(task_id="pod", image="any", cmds=["sleep", "987654"])
"""

WAITING_FILE = """\
from airflow.sdk import DAG
from sevenfold_airflow.gate import GateSensor

with DAG("toy.testing", schedule=None):
    GateSensor(task_id="gate", retries=0)
"""


class Embedded:
    """One state folder, and launchers on it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.dags = folder / "dags"
        self.dags.mkdir()
        (self.dags / "toy.py").write_text(DAG_FILE)
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {
            "SEVENFOLD_HOME": str(self.home),
            "SEVENFOLD_AIRFLOW_URL": self.url,
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT / 'plugins'}",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sevenfold_airflow.embedded", "--dags", str(self.dags)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def until_up(self, process: subprocess.Popen[str]) -> list[str]:
        """The lines that it says until it runs."""
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Airflow runs at"):
                return lines
        raise AssertionError(f"it never came up: {lines}")

    @property
    def client(self) -> AirflowClient:
        return AirflowClient(self.url, "admin", airflow_passwords(self.home / "secrets")["admin"])

    def trigger(self, dag: str) -> None:
        for _ in range(150):
            try:
                self.client.trigger(dag, {}, "run-1")
                return
            except AirflowError:
                time.sleep(0.4)
        raise AssertionError(f"{dag} never appeared")

    def processes(self) -> list[psutil.Process]:
        """Everything that belongs to this folder, the pod that sleeps included."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = str(self.home) in str(process.environ().get("SEVENFOLD_HOME", ""))
                if ours and process.pid != os.getpid():
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path)
    yield made
    for process in [*made.processes(), *(psutil.Process(p.pid) for p in made.started if p.poll() is None)]:
        process.kill()


def wait_for(condition: object, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.3)
    return False


def pods(embedded: Embedded) -> list[psutil.Process]:
    return [p for p in embedded.processes() if p.status() != "zombie" and p.cmdline()[:1] == ["sleep"]]


def test_it_starts_runs_survives_a_kill_and_stops_without_leftovers(embedded: Embedded) -> None:
    first = embedded.start()
    embedded.until_up(first)
    embedded.trigger("toy.quick")
    assert wait_for(lambda: embedded.client.run("toy.quick", "run-1")["state"] == "success", 60)
    embedded.trigger("toy.slow")
    assert wait_for(lambda: len(pods(embedded)) == 1, 60)

    second = embedded.start()
    said, _ = second.communicate(timeout=60)
    assert (second.returncode, "already runs on" in said) == (1, True)

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    [pod] = pods(embedded)
    third = embedded.start()
    lines = embedded.until_up(third)
    assert any("that an earlier start had left" in line for line in lines)
    assert not pod.is_running(), "the pod of the killed scheduler's task is still there"
    # the task that was cut short is started again
    assert wait_for(lambda: len(pods(embedded)) == 1, 120)

    third.terminate()
    assert third.wait(30) == 0
    assert wait_for(lambda: embedded.processes() == [], 15), embedded.processes()


def test_a_port_that_is_taken_is_one_sentence(embedded: Embedded) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(embedded.url.rsplit(":", 1)[1])))
        taken.listen()
        process = embedded.start()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip().startswith(f"Airflow cannot listen on {embedded.url} (Address already in use)")


def test_a_waiting_gate_survives_the_death_of_triggerer_and_scheduler(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = embedded.dags.parent / "models"
    for name, value in (("SEVENFOLD_HOME", embedded.home), ("SEVENFOLD_MODELS", models)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SEVENFOLD_EVIDENCE_URL", raising=False)
    settings.cache_clear()
    world = World(embedded.dags.parent)
    world.polled("testing")
    candidate = world.candidate()
    world.passes(candidate, "training")
    promotion = world.begin("testing", "run-1", candidate)
    world.measure(promotion, 0.1)
    few = {"activity": "canary", "metric": "errors", "n": 10, "interval": "i1", "counts": {"bad": 1, "n": 10}}
    world.measure(promotion, 0.1, **few)

    (embedded.dags / "toy.py").write_text(WAITING_FILE)
    embedded.until_up(embedded.start())
    embedded.trigger("toy.testing")

    def gate_is(state: str) -> bool:
        return [task["state"] for task in embedded.client.tasks("toy.testing", "run-1")] == [state]

    assert wait_for(lambda: gate_is("deferred"), 60)
    sessions = json.loads((embedded.home / "airflow" / "sessions.json").read_text())
    for session in sessions:
        if session["name"] in ("triggerer", "scheduler"):
            os.kill(session["pid"], signal.SIGKILL)
    many = {"value": 0.02, "n": 1000, "interval": "i2", "counts": {"bad": 20, "n": 1000}}
    world.measure(promotion, 0.02, **few | many)
    assert wait_for(lambda: gate_is("success"), 150)
    assert world.store.promotion(promotion.id).state == "promoted"
    assert world.store.passed(candidate.id, "testing")
    settings.cache_clear()
