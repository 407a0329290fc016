"""One supervisord for every local process: started once, asked over its Unix socket, outlives who started it.

Each program is a file in `<home>/run/conf.d`. supervisord is a daemon in a session of its own, so the end of
the task or the terminal that started it changes nothing.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from sevenfold.errors import SevenfoldError
from sevenfold.local.sockets import UnixConnection, socket_folder
from sevenfold.secrets import private_folder, write_private
from sevenfold.settings import REPOSITORY

RUNNING, STARTING = "RUNNING", "STARTING"
_INEXPRESSIBLE = ("\n", " ;", " #", "\t;", "\t#", "%(here)s")
_CALL_LIMIT_S = 120.0
"""Longest call: stopping a program that drains."""
_START_LIMIT_S = 20.0
_NO_SUCH_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED, _STILL_RUNNING = 10, 60, 70, 90, 91
"""Fault codes of supervisor.xmlrpc.Faults."""


class SupervisorDown(SevenfoldError):
    """No supervisord answers, or it did not start."""

    retry = True


class BadProgram(SevenfoldError):
    """A program that supervisord's configuration cannot express."""


class UnknownProgram(SevenfoldError):
    """supervisord knows no program of this name."""


@dataclass(frozen=True)
class Program:
    """A process to keep running.

    `startsecs` is how long it must stay up to count as started, `stopwaitsecs` how long it may take after
    SIGTERM before SIGKILL to its whole process group. `priority`: lower ones start first and stop last.
    `stopasgroup` sends SIGTERM to the whole group, for programs that do not tell their children. After
    an exit with one of `final_codes` it is not started again.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    autorestart: bool = True
    final_codes: tuple[int, ...] = ()
    startsecs: int = 1
    startretries: int = 5
    stopwaitsecs: int = 15
    priority: int = 500
    stopasgroup: bool = False

    def __post_init__(self) -> None:
        if not self.name or not all(letter.isalnum() or letter in "._-" for letter in self.name):
            raise BadProgram(f"'{self.name}' is no name of a program: letters, digits, dot, dash, underscore")


@dataclass(frozen=True)
class ProgramStatus:
    """What supervisord says of a program.

    Its state (RUNNING, BACKOFF, FATAL ...), pid (0 when down), since when (seconds since 1970), a sentence
    and its log.
    """

    name: str
    state: str
    pid: int
    since: float
    detail: str
    log: Path


class Supervisor:
    """The supervisord of one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._run = private_folder(home / "run")
        self._programs = private_folder(self._run / "conf.d")
        self._logs = private_folder(home / "logs")
        self._pidfile = self._run / "supervisord.pid"
        self.socket = socket_folder(home) / "supervisor.sock"

    def start(self) -> None:
        """Starts supervisord with all its programs, unless it runs; clears what a killed one left behind.

        Raises:
            SupervisorDown: it did not start; the sentence has the last line of its log.
        """
        with self._alone():
            if self.running():
                return
            end_leftovers(self.socket)
            self.socket.unlink(missing_ok=True)
            configuration = self._run / "supervisord.conf"
            write_private(configuration, self._configuration())
            done = subprocess.run(
                [sys.executable, "-m", "sevenfold.local.supervisord", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=self.home,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY / "include")},
                start_new_session=True,
                check=False,
            )
            if done.returncode or not _soon(self.running, _START_LIMIT_S):
                said = (
                    (done.stderr or done.stdout).strip()
                    or self.tail("supervisord", 1)
                    or "it does not say why"
                )
                raise SupervisorDown(f"supervisord did not start in {self.home}: {said.splitlines()[0]}")

    def running(self) -> bool:
        """Whether supervisord answers."""
        try:
            with self._rpc() as rpc:
                return bool(rpc.supervisor.getState()["statename"] == RUNNING)
        except SupervisorDown:
            return False

    def add(self, program: Program) -> None:
        """Starts `program`, or restarts it if it is another than the one of that name, or was stopped.

        Returns as soon as supervisord has taken it; `status` says what became of it.

        Raises:
            BadProgram: its command or environment cannot be written as supervisord configuration.
            SupervisorDown: supervisord does not answer.
        """
        file, content = self._programs / f"{program.name}.conf", _section(program, self._logs)
        with self._alone(), self._rpc() as rpc:
            if not file.exists() or file.read_text() != content:
                write_private(file, content)
            _, changed, _ = rpc.supervisor.reloadConfig()[0]
            if program.name in changed:
                self._drop(rpc, program.name)
            if not _did(_ALREADY_ADDED, rpc.supervisor.addProcessGroup, program.name):
                _did(_ALREADY_STARTED, rpc.supervisor.startProcess, program.name, False)

    def remove(self, *names: str) -> None:
        """Stops programs and forgets them; unknown ones are no error.

        All get SIGTERM at once, and SIGKILL after their own stopwaitsecs; returns when they are gone.
        """
        with self._alone():
            for name in names:
                (self._programs / f"{name}.conf").unlink(missing_ok=True)
        with self._rpc() as rpc:
            self._drop(rpc, *names)

    def stop(self, name: str) -> None:
        """Stops a program until the next `add`, `restart` or `start`."""
        with self._rpc() as rpc, self._known(name):
            _did(_NOT_RUNNING, rpc.supervisor.stopProcess, name)

    def restart(self, name: str) -> None:
        """Stops and starts a program."""
        self.stop(name)
        with self._rpc() as rpc, self._known(name):
            _did(_ALREADY_STARTED, rpc.supervisor.startProcess, name, False)

    def status(self) -> list[ProgramStatus]:
        """All programs, by name."""
        with self._rpc() as rpc:
            told = rpc.supervisor.getAllProcessInfo()
        return sorted((_status(info) for info in told), key=lambda program: program.name)

    def program(self, name: str) -> ProgramStatus:
        """One program, or UnknownProgram."""
        with self._rpc() as rpc, self._known(name):
            return _status(rpc.supervisor.getProcessInfo(name))

    def tail(self, name: str, lines: int = 10) -> str:
        """The last lines of a program's log."""
        try:
            with (self._logs / f"{name}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def shutdown(self) -> None:
        """Stops every program, then supervisord; returns when all are gone. Nothing if it does not run."""
        pid = self._pid()
        try:
            with self._rpc() as rpc:
                rpc.supervisor.shutdown()
        except SupervisorDown:
            pid = None
        if pid is not None:
            _soon(lambda: not psutil.pid_exists(pid), _CALL_LIMIT_S)
        end_leftovers(self.socket)

    def _pid(self) -> int | None:
        try:
            return int(self._pidfile.read_text())
        except (OSError, ValueError):
            return None

    def _drop(self, rpc: Any, *names: str) -> None:
        known = [name for name in names if _did(_NO_SUCH_NAME, rpc.supervisor.stopProcessGroup, name, False)]
        for name in known:
            gone = partial(self._removed, rpc, name)
            if not _soon(gone, _CALL_LIMIT_S):
                raise SupervisorDown(f"program {name} of {self.home} does not stop")

    def _removed(self, rpc: Any, name: str) -> bool:
        try:
            rpc.supervisor.removeProcessGroup(name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (_NO_SUCH_NAME, _STILL_RUNNING):
                raise
            return bool(fault.faultCode == _NO_SUCH_NAME)
        return True

    @contextmanager
    def _known(self, name: str) -> Iterator[None]:
        try:
            yield
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NO_SUCH_NAME:
                raise
            known = ", ".join(sorted(file.stem for file in self._programs.glob("*.conf"))) or "none"
            raise UnknownProgram(f"there is no program '{name}' in {self.home}; there are {known}") from None

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(serverurl=f"unix://{self.socket}")
        transport._get_connection = lambda: UnixConnection(self.socket, _CALL_LIMIT_S)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as rpc:
                yield rpc
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorDown(f"no supervisord answers for {self.home}: {error}") from error
        except xmlrpc.client.Fault as fault:
            raise SupervisorDown(f"supervisord of {self.home} refused: {fault.faultString}") from fault

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._run / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _configuration(self) -> str:
        user = "user=root\n" if os.getuid() == 0 else ""
        return (
            f"[unix_http_server]\nfile={_escaped(str(self.socket))}\nchmod=0600\n\n"
            f"[supervisord]\nlogfile={_escaped(str(self._logs / 'supervisord.log'))}\n"
            f"logfile_maxbytes=5MB\nlogfile_backups=2\npidfile={_escaped(str(self._pidfile))}\n"
            f"childlogdir={_escaped(str(self._logs))}\numask=077\nminfds=1024\n{user}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n"
            "[include]\nfiles=conf.d/*.conf\n"
        )


def end_leftovers(server: Path) -> None:
    """Ends the processes that a killed supervisord left running.

    They are known by SUPERVISOR_SERVER_URL, which supervisord gives to its programs and they to theirs; a
    recorded pid would miss what was restarted since, and may be somebody else's by now.

    Raises:
        SupervisorDown: this process is itself one of them.
    """
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter() if _started_by(process, server)]
    if any(process.pid in mine for process in left):
        raise SupervisorDown(
            f"the supervisord of {server} was killed and this process is one it had started: "
            "start it again from outside"
        )
    for process in left:
        with _gone_is_fine():
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=10)
    for process in alive:
        with _gone_is_fine():
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _started_by(process: psutil.Process, server: Path) -> bool:
    try:
        return bool(process.environ().get("SUPERVISOR_SERVER_URL") == f"unix://{server}")
    except (psutil.Error, OSError):
        return False  # not ours, or gone


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


def _did(code: int, call: Callable[..., Any], *arguments: Any) -> bool:
    """Calls supervisord; False for the one fault that says that nothing was left to do."""
    try:
        call(*arguments)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != code:
            raise
        return False
    return True


def _soon(true: Callable[[], bool], limit: float) -> bool:
    until = time.monotonic() + limit
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _status(info: Mapping[str, Any]) -> ProgramStatus:
    return ProgramStatus(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        since=float(info["start"]),
        detail=info["spawnerr"] or info["description"],
        log=Path(info["stdout_logfile"]),
    )


def _section(program: Program, logs: Path) -> str:
    settings = {
        "command": _escaped(shlex.join(program.command)),
        "directory": _escaped(str(program.directory)) if program.directory else None,
        "environment": ",".join(f"{key}={_quoted(key, value)}" for key, value in program.env.items()) or None,
        "autostart": "true",
        "autorestart": _restart(program),
        "exitcodes": ",".join(map(str, program.final_codes)) or None,
        "startsecs": program.startsecs,
        "startretries": program.startretries,
        "stopwaitsecs": program.stopwaitsecs,
        "stopasgroup": str(program.stopasgroup).lower(),
        "killasgroup": "true",
        "priority": program.priority,
        "stdout_logfile": _escaped(_escaped(str(logs / f"{program.name}.log"))),  # it is expanded twice
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 3,
        "redirect_stderr": "true",
    }
    lines = [f"{key}={value}" for key, value in settings.items() if value is not None]
    return "\n".join([f"[program:{program.name}]", *lines, ""])


def _restart(program: Program) -> str:
    if program.autorestart and program.final_codes:
        return "unexpected"
    return "true" if program.autorestart else "false"


def _quoted(key: str, value: str) -> str:
    if value.strip("\"'") != value or ('"' in value and "'" in value):
        raise BadProgram(f"supervisord cannot express the quotes in the variable {key}")
    quote = "'" if '"' in value else '"'
    return f"{quote}{_escaped(value)}{quote}"


def _escaped(value: str) -> str:
    """A value of supervisord's INI files: % starts an expansion, and ' ;' and ' #' comments."""
    if any(mark in value for mark in _INEXPRESSIBLE):
        raise BadProgram(f"supervisord cannot express a line break, ' ;', ' #' or %(here)s in {value!r}")
    return value.replace("%", "%%")
