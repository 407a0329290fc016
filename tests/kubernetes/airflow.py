"""An embedded Airflow on the tests' own machine, whose pods run on the cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.conftest import free_ports
from tests.kubernetes.place import Place

from sevenfold.local.airflow_client import AirflowClient
from sevenfold.secrets import airflow_passwords

ROOT = Path(__file__).resolve().parents[2]
DAG = "flight_delay.training"
ENDED = ("success", "failed", "upstream_failed", "skipped")
SMALL = {
    "as_of": "2013-03-15",
    "window_months": 1,
    "search_trials": 1,
    "hyperparameters": {"epochs": 4},
    "reason": "a slice, for a test of the cluster",
}


class Airflow:
    """Starts with what a person would give it: a connection, addresses, keys.

    Args:
        models: folder of models; those of the repository unless given.
        here: more of the connection's extra `sevenfold`.
    """

    def __init__(self, place: Place, folder: Path, models: Path | None = None, **here: Any) -> None:
        self.place, self.folder = place, folder
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        quick = {"poll_seconds": 1, "log_seconds": 5, "schedule_seconds": 120, "start_seconds": 900}
        extra = {
            "kube_config_path": str(place.kubeconfig(folder)),
            "sevenfold": {
                "runtime": "kubernetes",
                **place.images.settings(),
                "namespace": f"{place.name}-{{environment}}",
                **quick,
                **here,
            },
        }
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SEVENFOLD_", "AIRFLOW", "AWS_"))
        }
        self.environment = {
            **inherited,
            **place.settings({part: place.address(part) for part in ("database", "objects", "mlflow")}),
            "SEVENFOLD_HOME": str(folder),
            "SEVENFOLD_AIRFLOW_URL": self.url,
            "SEVENFOLD_SECRETS": str(place.secrets),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": extra}),
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT / 'plugins'}",
            "OMP_NUM_THREADS": "1",
            **({"SEVENFOLD_MODELS": str(models)} if models else {}),
        }
        self.client = AirflowClient(self.url, "admin", airflow_passwords(place.secrets)["admin"])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Makes the evidence's tables and starts Airflow; returns when it answers and knows the DAG."""
        command = [sys.executable, "-m", "sevenfold.cli", "migrate"]
        subprocess.run(command, env=self.environment, check=True, timeout=300)
        log = (self.folder / "airflow.log").open("wb")
        command = [sys.executable, "-m", "sevenfold_airflow.embedded"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "airflow.log").read_text()[-2000:]
            return self.client.healthy() and DAG in {dag["dag_id"] for dag in self.client.dags()}

        self.place.cluster.wait(ready, "Airflow does not come up", 300)

    def stop(self) -> None:
        """Stops all of it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def kill(self, *components: str) -> None:
        """Kills parts of it; the launcher starts them again."""
        sessions = json.loads((self.folder / "airflow" / "sessions.json").read_text())
        for one in sessions:
            if one["name"] in components:
                os.kill(one["pid"], signal.SIGKILL)

    def trigger(self, run: str, **more: Any) -> None:
        """Starts a run of the DAG as it is, on little data."""
        self.client.trigger(DAG, {**SMALL, **more}, run)

    def tasks(self, run: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run."""
        return {one["task_id"]: one for one in self.client.tasks(DAG, run)}

    def follow(self, run: str, until: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """The tasks of a run once they are as wanted; says on the way what they have come to."""
        began, last = time.monotonic(), ""
        while True:
            tasks = self.tasks(run)
            said = ", ".join(f"{name} {one['state']}" for name, one in tasks.items() if one["state"])
            if said != last:
                print(f"[{time.monotonic() - began:5.0f} s] {said}", flush=True)
                last = said
            if until(tasks):
                return tasks
            if time.monotonic() - began > seconds:
                pytest.fail(f"run {run} is not where it should be after {seconds:.0f} s: {said}")
            time.sleep(1)

    def log(self, run: str, task: str) -> str:
        """What Airflow has written of all tries of a task."""
        folder = self.folder / "airflow" / "logs" / f"dag_id={DAG}" / f"run_id={run}" / f"task_id={task}"
        return "\n".join(path.read_text() for path in sorted(folder.glob("*")))

    def pods(self, run: str, task: str) -> list[Any]:
        """The pods of a run's task that are there."""
        return self.place.cluster.pods(self.place.namespace, run=run, activity=task)
