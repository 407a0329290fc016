"""An Airflow for tests: its own empty home, no examples or plugins, local pods. Import it before Airflow."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sevenfold.light_imports import without_iris

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(tempfile.mkdtemp(prefix="sevenfold-airflow-test-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

if "airflow" in sys.modules:
    raise RuntimeError("Airflow reads its configuration when it is imported: import tests.airflow_home first")
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
without_iris()
(HOME / "dags").mkdir()
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(HOME / "plugins"),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    # how long the Kubernetes provider waits before it asks again
    "AIRFLOW__WORKERS__API_RETRY_WAIT_MIN": "0.05",
    "AIRFLOW__WORKERS__API_RETRY_WAIT_MAX": "0.1",
    "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(
        {"conn_type": "kubernetes", "extra": {"sevenfold": {"runtime": "local"}}}
    ),
}


def context(task: Any, run_id: str = "run-1", **more: Any) -> dict[str, Any]:
    """What Airflow hands to a task that runs, as far as tasks of Sevenfold look at it."""
    from airflow.sdk.api.datamodels._generated import DagRunType

    ti = SimpleNamespace(
        dag_id=task.dag_id,
        task_id=task.task_id,
        run_id=run_id,
        map_index=-1,
        try_number=more.pop("try_number", 1),
        max_tries=task.retries,
        start_date=more.pop("started", None) or datetime.now(UTC),
        xcom_push=lambda key, value: None,
        get_task_states=lambda dag_id, run_ids: {run_id: more.get("states", {})},
    )
    run = SimpleNamespace(
        dag_id=task.dag_id,
        run_id=run_id,
        run_type=DagRunType(more.pop("run_type", "manual")),
        triggering_user_name=more.pop("by", "ada"),
    )
    found = {"ti": ti, "task_instance": ti, "dag": task.dag, "task": task, "run_id": run_id, "dag_run": run}
    return found | {"params": {}} | more
