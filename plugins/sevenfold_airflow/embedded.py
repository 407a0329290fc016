"""The embedded Airflow: imports once, forks its four components, restarts what dies, stops without leftovers.

    python -m sevenfold_airflow.embedded [--dags FOLDER]

Four `airflow` commands import the same modules four times, and each task imports the Kubernetes models again;
forked from one process they share them. The api-server comes first and answers its execution API once before
anything is scheduled, because the first task would otherwise fail while that API is being built.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import hashlib
import http.client
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sevenfold.errors import SevenfoldError
from sevenfold.light_imports import without_iris
from sevenfold.settings import REPOSITORY, Settings, settings
from sevenfold_airflow.environment import airflow_environment, airflow_home
from sevenfold_airflow.settings_file import load_settings_file

COMPONENTS = {
    "api-server": [],
    "scheduler": ["--skip-serve-logs"],  # log servers would listen on every address
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}
SHARED_IMPORTS = (
    "airflow.__main__",
    "airflow.cli.cli_parser",
    "airflow.cli.commands.api_server_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.api_fastapi.core_api.app",
    "airflow.api_fastapi.execution_api.app",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.dag_processing.manager",
    "airflow.dag_processing.processor",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "uvicorn",
    "sevenfold_airflow.rail",
)
STOP_SECONDS = 4.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""Who has lived so long did not die of its start: it is started again at once, whatever was before."""
LARGEST_LOG_BYTES = 10_000_000


class CannotStart(SevenfoldError):
    """The embedded Airflow cannot start here."""


class Launcher:
    """The four components of one embedded Airflow, each the leader of a session of its own."""

    def __init__(self, here: Settings) -> None:
        self.settings = here
        self.home = airflow_home(here)
        self.running: dict[int, str] = {}
        self.stopping = False
        self._deaths: dict[str, int] = {}
        self._born: dict[int, float] = {}

    def run(self) -> None:
        """Starts everything and keeps it running until SIGTERM or SIGINT."""
        started = time.monotonic()
        self._free_port()
        _import_shared()
        self._in_a_child(lambda: prepare_database(self.home))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._start("api-server")
        self._warm_execution_api()
        for name in COMPONENTS:
            if name not in self.running.values() and not self.stopping:
                self._start(name)
        if not self.stopping:
            _say(f"Airflow runs at {self.settings.airflow_url} after {time.monotonic() - started:.1f} s")
        self._supervise()

    def _supervise(self) -> None:
        """Restarts what dies; while stopping, waits for everybody and then ends who is left."""
        patience: float | None = None
        while self.running:
            if self.stopping and patience is None:
                patience = time.monotonic() + STOP_SECONDS
            if patience is not None and time.monotonic() > patience:
                _end_sessions(list(self.running))
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in self.running:
                self._bury(pid, status)
            elif not pid:
                time.sleep(0.2)

    def _bury(self, pid: int, status: int) -> None:
        name = self.running.pop(pid)
        _end_sessions([pid])
        self._record()
        if self.stopping:
            return
        pause = self._pause(name, time.monotonic() - self._born.pop(pid))
        _say(f"{name} ended ({_how(status)}), see {self._log(name)}; it starts again in {pause:.0f} s")
        until = time.monotonic() + pause
        while time.monotonic() < until and not self.stopping:
            time.sleep(0.2)
        if not self.stopping:
            self._start(name)

    def _pause(self, name: str, lived: float) -> float:
        """Seconds until a component that has lived so long is started again: longer with each early death."""
        before = 0 if lived >= STEADY_SECONDS else self._deaths.get(name, 0)
        self._deaths[name] = before + 1
        return min(LONGEST_PAUSE_SECONDS, 2.0**before)

    def _stop(self, *_: object) -> None:
        self.stopping = True
        for pid in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, name: str) -> None:
        pid = os.fork()
        if pid == 0:
            _become(name, self._log(name))
        self.running[pid], self._born[pid] = name, time.monotonic()
        self._record()

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _record(self) -> None:
        """Who leads which session, so that the next start can end what a killed launcher left."""
        sessions = [
            {"name": name, "pid": pid, "started": _started(pid)} for pid, name in self.running.items()
        ]
        _record_file(self.home).write_text(json.dumps(sessions))

    def _free_port(self) -> None:
        address = urlsplit(self.settings.airflow_url)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.hostname or "127.0.0.1", address.port or 8080))
            except OSError as error:
                raise CannotStart(
                    f"Airflow cannot listen on {self.settings.airflow_url} ({error.strerror}): "
                    "stop who does, or set SEVENFOLD_AIRFLOW_URL to another port"
                ) from error

    def _warm_execution_api(self) -> None:
        """Asks the execution API for its health until it answers: it is built by its first request."""
        address = urlsplit(self.settings.airflow_url)
        while not self.stopping:
            if os.waitpid(-1, os.WNOHANG)[0]:
                raise CannotStart(f"the api-server ended while starting, see {self._log('api-server')}")
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=90)
                connection.request("GET", "/execution/health")
                connection.getresponse().read()
                return
            time.sleep(0.1)

    def _in_a_child(self, work: Callable[[], None]) -> None:
        """Runs `work` in a fork: what it opens (database connections) must not be shared by later forks."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            except SevenfoldError as error:
                print(error, file=sys.stderr, flush=True)
            except BaseException:
                import traceback

                traceback.print_exc()
            os._exit(code)
        if os.waitpid(pid, 0)[1]:
            raise CannotStart(f"the database of Airflow in {self.home} could not be prepared")


def prepare_database(home: Path) -> None:
    """Creates or migrates Airflow's database, loads airflow_settings.yaml; nothing if both are as before."""
    from airflow import __version__
    from airflow.utils.db import initdb

    file = REPOSITORY / "airflow_settings.yaml"
    state = f"{__version__} {hashlib.sha256(file.read_bytes()).hexdigest()}"
    stamp = home / "prepared"
    if stamp.exists() and stamp.read_text() == state and (home / "airflow.db").exists():
        return
    stamp.unlink(missing_ok=True)
    initdb()
    load_settings_file(file)
    stamp.write_text(state)


def end_leftovers(here: Settings) -> int:
    """Ends what a killed launcher has left running, and returns how many processes that were."""
    record = _record_file(airflow_home(here))
    if not record.exists():
        return 0
    try:
        sessions = json.loads(record.read_text())
    except ValueError:
        sessions = []
    ours = [s["pid"] for s in sessions if _started(s["pid"]) in (None, s["started"])]
    ended = _end_sessions(ours)
    record.unlink(missing_ok=True)
    return ended


def main() -> None:
    """Runs the embedded Airflow of this process's settings until it is told to stop."""
    parser = argparse.ArgumentParser(prog="sevenfold_airflow.embedded", description=main.__doc__)
    parser.add_argument("--dags", type=Path, default=REPOSITORY / "dags", help="folder of DAG files")
    given = parser.parse_args()
    here = settings()
    try:
        with _only_one(airflow_home(here)):
            if leftovers := end_leftovers(here):
                _say(f"ended {leftovers} processes that an earlier start had left")
            os.environ.update(airflow_environment(here, given.dags.absolute()))
            Launcher(here).run()
    except SevenfoldError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)


def _import_shared() -> None:
    without_iris()
    gc.disable()  # nearly all that imports make is kept: looking for garbage is an eighth of their cost
    for name in SHARED_IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection would touch, and so copy, every shared page
    gc.enable()


def _become(name: str, log: Path) -> None:
    """Turns this forked child into a component; does not return."""
    code = 1
    try:
        os.setsid()
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        sys.argv = ["airflow", name, *COMPONENTS[name]]
        from airflow.__main__ import main as airflow

        airflow()  # type: ignore[no-untyped-call]
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _end_sessions(leaders: list[int]) -> int:
    """SIGKILL to all of these sessions: workers and tasks do not die with their leader.

    Not SIGTERM: a task that hears it reports a failure, one that is gone is started again by the next
    scheduler, and what it was doing resumes. Its pod is ended in order by its keeper, in any case.
    """
    found = _members(leaders)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while found and _members(leaders) and time.monotonic() < until:
        time.sleep(0.05)
    return len(found)


def _members(leaders: list[int]) -> list[int]:
    import psutil  # type: ignore[import-untyped]

    wanted = set(leaders)
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) in wanted and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                members.append(pid)
    return sorted(members)


def _started(pid: int) -> float | None:
    """When a process started, to tell it from a later one of the same number; None when there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _record_file(home: Path) -> Path:
    return home / "sessions.json"


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "launcher.lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not inherited by forks
        except OSError as error:
            raise CannotStart(f"an embedded Airflow already runs on {home}") from error
        yield


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
