"""The environment of the embedded Airflow: every AIRFLOW__* value, each with its reason."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from sevenfold.secrets import AIRFLOW_USERS, VIEWER, airflow_passwords, private_folder, write_private
from sevenfold.settings import REPOSITORY, Settings

ROLES = {"admin": "admin", "approver": "user", VIEWER: "viewer"}
"""The approver may look, trigger and answer, and cannot change connections or variables."""


def airflow_home(settings: Settings) -> Path:
    """Where the embedded Airflow keeps its database, logs and process list."""
    return settings.home / "airflow"


def airflow_environment(settings: Settings, dags: Path = REPOSITORY / "dags") -> dict[str, str]:
    """Variables for every component of the embedded Airflow; makes its folder, keys and passwords."""
    home = private_folder(airflow_home(settings))
    airflow_passwords(settings.secrets)
    keys = _keys(settings.secrets / "airflow_keys.json")
    address = settings.airflow_url.rstrip("/")
    port = urlsplit(address).port or 8080
    values = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",  # the widest fan-out of an environment; each worker costs 20 MB
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "CORE__DAG_DISCOVERY_SAFE_MODE": "False",  # it looks for the word dag, and dags/ holds nothing else
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__MP_START_METHOD": "fork",  # workers share what the launcher imported
        "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "CORE__FERNET_KEY": keys["fernet"],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{ROLES[name]}" for name in AIRFLOW_USERS),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.secrets / "airflow.json"),
        # a writer waits for another one, for longer than SQLite's five seconds: two busy cores are slow
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "API__HOST": urlsplit(address).hostname or "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": address,
        "API__SECRET_KEY": keys["api"],
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": keys["jwt"],
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "LOGGING__LOGGING_LEVEL": "INFO",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",  # one second of idling per dependent task otherwise
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "5",  # also the sweep of approvals that ran out of time
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a slot may sleep this long after its task ended
        "WORKERS__EXECUTION_API_TIMEOUT": "60",  # the first request builds the versioned API
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        "METRICS__STATSD_ON": "False",
    }
    own = {f"AIRFLOW__{name}": value for name, value in values.items()}
    return own | {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": f"{REPOSITORY / 'include'}:{REPOSITORY / 'plugins'}",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _keys(path: Path) -> dict[str, str]:
    """The keys that all components share, made once: they sign tokens and sessions, encrypt connections."""
    if not path.exists():
        from cryptography.fernet import Fernet

        made = {
            "jwt": secrets.token_urlsafe(64),
            "api": secrets.token_urlsafe(32),
            "fernet": Fernet.generate_key().decode(),
        }
        write_private(path, json.dumps(made))
    kept: dict[str, str] = json.loads(path.read_text())
    return kept
