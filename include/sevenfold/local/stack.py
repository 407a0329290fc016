"""The local stack: which programs it is, and how it starts, is looked at, and stops.

One supervisord keeps all of them running: Airflow, MLflow, Envoy, the reconciler, the watchman, and the model
servers that activities deploy later. Starting what runs already changes nothing, so a start that was cut
short is simply started again.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from sevenfold import direct_http
from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import upgrade
from sevenfold.gateway import local_gateway
from sevenfold.gateway.local import is_loopback
from sevenfold.local.airflow_client import AirflowClient
from sevenfold.local.supervision import RUNNING, STARTING, Program, Supervisor
from sevenfold.model.spec import models
from sevenfold.secrets import airflow_passwords, private_folder
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import REPOSITORY, Settings

Progress = Callable[[str], None]

LAYOUT = "1"
"""Version of the state folder's layout; another one is refused instead of half-understood."""
FREE_BYTES = 2 << 30
START_LIMIT_S = 240.0
ASK_S, LOOK_S = 5.0, 2.0
QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "OMP_NUM_THREADS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}


class CannotStart(SevenfoldError):
    """The stack cannot start here as things are."""


def up(settings: Settings, progress: Progress) -> None:
    """Starts what does not run yet, and returns when everything answers.

    Raises:
        CannotStart: a port is taken, the disk full, the state folder not ours, or a part did not come up; or
            what signs in nobody, or over no TLS, would listen to a network.
    """
    _require_loopback(settings)
    prepare(settings)
    supervisor = Supervisor(settings.home)
    known = supervisor.status() if supervisor.running() else []
    running = {program.name for program in known if program.state in (RUNNING, STARTING)}
    parts = [program for program in programs(settings) if program.name not in running]
    for part in parts:
        _require_free_port(settings, part.name)
    supervisor.start()
    for part in parts:
        progress(f"starting {part.name}")
        supervisor.add(part)
    for name, answers in _checks(settings).items():
        _wait(name, answers, supervisor)
        progress(f"{name} answers")


def down(settings: Settings) -> bool:
    """Stops everything; what was decided and measured stays. False when nothing ran."""
    supervisor = Supervisor(settings.home)
    if not supervisor.running():
        return False
    supervisor.shutdown()
    return True


def programs(settings: Settings) -> list[Program]:
    """The parts of the stack that run from the beginning."""
    python = sys.executable
    environment = {
        **QUIET,
        "SEVENFOLD_HOME": str(settings.home),
        "SEVENFOLD_MODELS": str(settings.models),
        "SEVENFOLD_MLFLOW_URL": settings.mlflow_url,
        "SEVENFOLD_GATEWAY_URL": settings.gateway_url,
        "SEVENFOLD_GATEWAY_REQUESTS_PER_SECOND": str(settings.gateway_requests_per_second),
        "SEVENFOLD_AIRFLOW_URL": settings.airflow_url,
        **_tls(settings),
        "PYTHONPATH": f"{REPOSITORY / 'include'}:{REPOSITORY / 'plugins'}",
    }
    mlflow = urlsplit(settings.mlflow_url)
    tracking = private_folder(settings.home / "mlflow")
    return [
        local_gateway().program(),
        Program(
            "airflow",
            (python, "-m", "sevenfold_airflow.embedded"),
            env=environment,
            directory=settings.home,
            stopwaitsecs=30,
            priority=300,
        ),
        Program(
            "mlflow",
            (
                *(
                    python,
                    "-m",
                    "mlflow",
                    "server",
                    "--host",
                    str(mlflow.hostname),
                    "--port",
                    str(mlflow.port),
                ),
                *("--workers", "1", "--backend-store-uri", f"sqlite:///{tracking}/mlflow.db"),
                *("--artifacts-destination", f"file://{tracking}/artifacts", "--serve-artifacts"),
            ),
            # job execution is for evaluating language models: 13 processes and 1.2 GB that nothing here needs
            env={**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            directory=tracking,
            stopasgroup=True,
            priority=200,
        ),
        Program(
            "reconciler",
            (python, "-m", "sevenfold.release.reconciler"),
            env=environment,
            directory=settings.home,
            priority=150,
        ),
        Program(
            "watchman",
            (python, "-m", "sevenfold.monitoring.watchman"),
            env=environment,
            directory=settings.home,
            priority=160,
        ),
    ]


def _tls(settings: Settings) -> dict[str, str]:
    """What parts of the stack need to talk to a gateway with TLS."""
    files = {
        "SEVENFOLD_GATEWAY_CERTIFICATE": settings.gateway_certificate,
        "SEVENFOLD_GATEWAY_KEY": settings.gateway_key,
        "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE"),
    }
    return {name: str(file) for name, file in files.items() if file}


def airflow(settings: Settings, user: str) -> AirflowClient:
    """Airflow's API, signed in as one of its users."""
    return AirflowClient(settings.airflow_url, user, airflow_passwords(settings.secrets)[user])


def prepare(settings: Settings) -> None:
    """Makes folders, keys and tables, or makes sure that what is there is ours and of this version.

    Raises:
        CannotStart: the state folder is not ours, cannot be written, or its disk is full.
        SevenfoldError: the database is of a later version, or cannot be reached.
    """
    _prepare_folder(settings)
    airflow_passwords(settings.secrets)
    GatewayKeys(settings.secrets).standing()
    upgrade(settings.evidence_url)


def _prepare_folder(settings: Settings) -> None:
    layout = settings.home / "layout"
    try:
        private_folder(settings.home)
        if not layout.exists():
            layout.write_text(LAYOUT)
        found = layout.read_text().strip()
        free = shutil.disk_usage(settings.home).free
    except OSError as error:
        raise CannotStart(f"the state folder {settings.home} cannot be used: {error.strerror}") from error
    if found != LAYOUT:
        raise CannotStart(
            f"the state folder {settings.home} has layout {found or 'none'}, this version needs {LAYOUT}: "
            "move it away, or set SEVENFOLD_HOME to another folder"
        )
    if free < FREE_BYTES:
        raise CannotStart(
            f"only {free >> 20:,} MiB are free where {settings.home} lies, {FREE_BYTES >> 20:,} MiB are "
            "needed: free some, or set SEVENFOLD_HOME to a folder on another disk"
        )


def _require_loopback(settings: Settings) -> None:
    """Airflow's passwords would travel readable, and MLflow asks for none. (The gateway has its own TLS.)"""
    for part, url in (("airflow", settings.airflow_url), ("mlflow", settings.mlflow_url)):
        address = urlsplit(url)
        if address.scheme != "http" or not is_loopback(address.hostname or ""):
            raise CannotStart(
                f"{part} listens here without TLS and cannot be reached at {url}: set "
                f"SEVENFOLD_{part.upper()}_URL to an http address of 127.0.0.1, and put a proxy with TLS and "
                "a sign-in before it"
            )


def _require_free_port(settings: Settings, part: str) -> None:
    url = {
        "airflow": settings.airflow_url,
        "mlflow": settings.mlflow_url,
        "gateway": settings.gateway_url,
    }.get(part)
    if url is None:
        return
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    wanted = [(address.hostname or "127.0.0.1", port, part)]
    if part == "gateway":
        wanted.append(("127.0.0.1", port + 1, "the gateway with its statistics"))
    for host, number, what in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
            except OSError as error:
                raise CannotStart(
                    f"port {number}, where {what} should listen, is taken ({error.strerror}): "
                    f"stop who holds it, or set SEVENFOLD_{part.upper()}_URL to another address"
                ) from error


def elsewhere(settings: Settings, known: Collection[str]) -> list[str]:
    """The parts that answer at their address although no supervisord of ours has them among the `known`: each
    in a container of its own, it may be, as docker/compose.yaml starts them."""
    addresses = {
        "airflow": f"{settings.airflow_url}/api/v2/version",
        "gateway": f"{settings.gateway_url}/healthz",
        "mlflow": f"{settings.mlflow_url}/health",
    }
    return [name for name, url in addresses.items() if name not in known and direct_http.answers(url, LOOK_S)]


def _checks(settings: Settings) -> dict[str, Callable[[], bool]]:
    client = airflow(settings, "admin")
    return {
        "mlflow": lambda: direct_http.answers(f"{settings.mlflow_url}/health", ASK_S),
        "gateway": lambda: direct_http.answers(f"{settings.gateway_url}/healthz", ASK_S),
        "airflow": lambda: client.healthy() and _knows_the_dags(client, models(settings.models)),
    }


def _knows_the_dags(client: AirflowClient, names: list[str]) -> bool:
    """Whether every model's environments can be started.

    Raises:
        CannotStart: a DAG file does not load.
    """
    for error in client.import_errors():
        last = str(error["stack_trace"]).strip().splitlines()[-1]
        raise CannotStart(f"the DAG file {error['filename']} does not load: {last}")
    wanted = {f"{name}.{environment}" for name in names for environment in (*ENVIRONMENTS, "roll_back")}
    return wanted <= {dag["dag_id"] for dag in client.dags()}


def _wait(name: str, answers: Callable[[], bool], supervisor: Supervisor) -> None:
    started = time.monotonic()
    while not answers():
        state = supervisor.program(name).state
        if state in ("FATAL", "EXITED") or time.monotonic() - started > START_LIMIT_S:
            raise CannotStart(
                f"{name} did not come up (supervisord says {state}); the last lines of its log, "
                f"{supervisor.program(name).log}:\n{supervisor.tail(name, 8)}"
            )
        time.sleep(0.25)
