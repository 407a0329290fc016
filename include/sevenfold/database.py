"""The database under the evidence store: transactions that are all or nothing, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.pool import Pool

from sevenfold import tables
from sevenfold.errors import SevenfoldError

BUSY_SECONDS = 30
"""How long a writer waits for another one before it gives up with StoreUnavailable."""
CONNECTIONS = 2
"""How many connections a process keeps open between transactions; threads may take more for a while."""
WRITE_LOCK = 7_000_007
"""Advisory lock: PostgreSQL takes one writer at a time, as SQLite does, for the audit log is one chain."""


class StoreUnavailable(SevenfoldError):
    """The database cannot be reached, is locked, or its disk is full. Nothing of the change was kept."""

    retry = True


class SchemaTooNew(SevenfoldError):
    """The database was made by a later version of Sevenfold."""


class Database:
    """SQLite or PostgreSQL behind the same transactions; a fork never shares a connection with its parent."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.engine = _postgresql(self.url) if self.is_postgresql else _sqlite(self.url)

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; else it is SQLite."""
        return self.url.get_backend_name() == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the store."""
        with self._explained(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: all of it or nothing, one writer at a time."""
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(sevenfold_write=True)
            with connection.begin():
                if self.is_postgresql:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
                yield connection

    def prepare(self) -> None:
        """Creates or migrates the tables where they are not those of this version.

        Raises:
            SchemaTooNew: a later version made them.
        """
        found = self._schema()
        if found is not None and found > tables.SCHEMA:
            raise SchemaTooNew(
                f"The evidence store {self.url.render_as_string()} has schema {found}, made by a later "
                f"Sevenfold than this one, which knows {tables.SCHEMA}."
            )
        if found != tables.SCHEMA:
            self._migrate()

    def _migrate(self) -> None:
        from sevenfold.migrations import migrate

        with self._alone():
            if not self.is_postgresql:
                with self._explained(), self.engine.connect() as connection:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            with self.writing() as connection:
                migrate(connection)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes the file: the switch of SQLite to WAL does not wait for others."""
        if self.is_postgresql or not self.url.database:
            yield
            return
        file = Path(self.url.database)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file.with_name(f"{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _schema(self) -> str | None:
        if not self.is_postgresql and not Path(self.url.database or "").is_file():
            return None
        try:
            with self.engine.connect() as connection:
                version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return version
        except exc.ProgrammingError:
            return None
        except exc.OperationalError as error:
            if "no such table" in str(error.orig):
                return None
            raise self._unavailable(error) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.OperationalError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: exc.OperationalError) -> StoreUnavailable:
        reason = " ".join(str(error.orig).split()).rstrip(".")
        return StoreUnavailable(f"The evidence store {self.url.render_as_string()} cannot be used: {reason}.")


def upgrade(url: str) -> None:
    """Creates the tables at `url`, or brings them to this version, in one transaction.

    Raises:
        SchemaTooNew: a later version made them.
        StoreUnavailable: the database cannot be reached.
    """
    Database(url).prepare()


def _postgresql(url: URL) -> Engine:
    return _forkable(
        create_engine(url.set(drivername="postgresql+psycopg"), pool_size=CONNECTIONS, pool_pre_ping=True)
    )


def _forkable(engine: Engine) -> Engine:
    """After a fork the child leaves the parent's connections alone: it neither uses nor closes them."""
    kept = weakref.ref(engine)

    def forget() -> None:
        if (inherited := kept()) is not None:
            _LEFT_TO_THE_PARENT.append(inherited.pool)
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)
    return engine


_LEFT_TO_THE_PARENT: list[Pool] = []


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, pool_size=CONNECTIONS, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver guesses
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("sevenfold_write") else "BEGIN")

    return _forkable(engine)
