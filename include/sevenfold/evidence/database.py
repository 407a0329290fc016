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

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import tables

BUSY_SECONDS = 30
"""How long a writer waits for another one before it gives up with StoreUnavailable."""
CONNECTIONS = 2
"""How many connections a process keeps open between transactions; threads may take more for a while."""
WRITE_LOCK = 7_000_007
"""Advisory lock: PostgreSQL takes one writer at a time, as SQLite does, for the audit log is one chain."""
IDLE_SECONDS = 60
"""How long a writer may do nothing: one whose machine has vanished must not keep all others waiting."""
UNDEFINED_TABLE, INSUFFICIENT_PRIVILEGE = "42P01", "42501"
PASSING = ("25006", "25P03")
"""SQLSTATEs of PostgreSQL; the last two pass: a standby was asked, a writer was idle for too long."""


class StoreUnavailable(SevenfoldError):
    """The database cannot be reached, is locked, or its disk is full. Nothing of the change was kept."""

    retry = True


class SchemaTooNew(SevenfoldError):
    """The database was made by a later version of Sevenfold."""


class NotMigrated(SevenfoldError):
    """The database has no tables, or those of an earlier version; only the command migrate makes them."""


class NotAllowed(SevenfoldError):
    """The role of the database that this program has may not do that (see sevenfold.evidence.grants)."""


class BadDatabaseUrl(SevenfoldError):
    """A URL of no database that we know."""


class Database:
    """SQLite or PostgreSQL behind the same transactions; a fork never shares a connection with its parent."""

    def __init__(self, url: str) -> None:
        self.url = database_url(url)
        self.engine = _postgresql(self.url) if self.is_postgresql else _sqlite(self.url)

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; else it is SQLite."""
        return self.url.get_backend_name() == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the store."""
        with self._explained(), self.engine.connect() as connection:
            if self.is_postgresql:
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: all of it or nothing, one writer at a time."""
        with self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(sevenfold_write=True)
            with connection.begin():
                if self.is_postgresql:
                    connection.execute(_WAIT_FOR_OTHERS, _patience())
                yield connection

    @property
    def name(self) -> str:
        """The URL as people may read it, without passwords."""
        hidden = {key: "***" for key in ("password", "sslpassword") if key in self.url.query}
        return self.url.update_query_dict(hidden).render_as_string()

    def prepare(self) -> None:
        """Creates or migrates the tables where they are not those of this version.

        Raises:
            SchemaTooNew: a later version made them.
            NotAllowed: this role owns no tables.
        """
        if self._known_schema() != tables.SCHEMA:
            self._migrate()

    def require_prepared(self) -> None:
        """Returns when the tables are those of this version; those of SQLite are made so.

        Raises:
            SchemaTooNew: a later version made them.
            NotMigrated: there are none, or an earlier version made them, and others use them too.
        """
        if not self.is_postgresql:
            self.prepare()
            return
        found = self._known_schema()
        if found != tables.SCHEMA:
            has = f"has schema {found}, made by an earlier Sevenfold" if found else "has no tables yet"
            raise NotMigrated(
                f"The evidence store {self.name} {has}, and this one needs {tables.SCHEMA}: "
                "let its owner run sevenfold migrate."
            )

    def _known_schema(self) -> str | None:
        found = self._schema()
        if found is not None and found > tables.SCHEMA:
            raise SchemaTooNew(
                f"The evidence store {self.name} has schema {found}, made by a later "
                f"Sevenfold than this one, which knows {tables.SCHEMA}."
            )
        return found

    def _migrate(self) -> None:
        from sevenfold.evidence.migrations import migrate

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
        except exc.ProgrammingError as error:
            if _sqlstate(error) == UNDEFINED_TABLE:
                return None
            raise self._refused(error) from error
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
        except exc.ProgrammingError as error:
            raise self._refused(error) from error
        except exc.InternalError as error:
            if _sqlstate(error) not in PASSING:
                raise
            raise self._unavailable(error) from error

    def _unavailable(self, error: exc.DBAPIError) -> StoreUnavailable:
        return StoreUnavailable(f"The evidence store {self.name} cannot be used: {_said(error)}.")

    def _refused(self, error: exc.ProgrammingError) -> Exception:
        """The database does not let this role do that, or knows no such parameter of a URL; else a defect."""
        if _sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            role = self.url.username or "this role"
            return NotAllowed(f"The evidence store {self.name} does not let {role} do that: {_said(error)}.")
        if error.statement is None:
            return BadDatabaseUrl(f"The evidence store {self.name} cannot be used: {_said(error)}.")
        return error


_WAIT_FOR_OTHERS = text(
    "SELECT set_config('lock_timeout', :busy, true), "
    "set_config('idle_in_transaction_session_timeout', :idle, true), pg_advisory_xact_lock(:key)"
)


def _patience() -> dict[str, Any]:
    return {"busy": f"{BUSY_SECONDS}s", "idle": f"{IDLE_SECONDS}s", "key": WRITE_LOCK}


def database_url(url: str) -> URL:
    """The URL with the driver that we use: postgresql:// and postgres:// mean postgresql+psycopg://.

    Raises:
        BadDatabaseUrl: it is none of PostgreSQL or SQLite.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        parsed = URL.create("none")
    kind = parsed.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise BadDatabaseUrl(
            "The URL of the evidence store (SEVENFOLD_EVIDENCE_URL) is none of "
            "postgresql://user@host/database and sqlite:////folder/evidence.db."
        )
    return parsed


def upgrade(url: str) -> None:
    """Creates the tables at `url`, or brings them to this version, in one transaction.

    Raises:
        SchemaTooNew: a later version made them.
        StoreUnavailable: the database cannot be reached.
    """
    Database(url).prepare()


def _sqlstate(error: exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _said(error: exc.DBAPIError) -> str:
    """What the driver says, in one line; of an answer of PostgreSQL not where in a function it arose."""
    answer = getattr(getattr(error.orig, "diag", None), "message_primary", None)
    return " ".join(str(answer or error.orig).split()).rstrip(".")


def _postgresql(url: URL) -> Engine:
    """Connections that a restart of the database does not spoil, and that poolers (PgBouncer) can share."""
    usual = {"connect_timeout": "10", "application_name": "sevenfold"}
    mine = {name: value for name, value in usual.items() if name not in url.query}
    return _forkable(
        create_engine(
            url,
            pool_size=CONNECTIONS,
            pool_pre_ping=True,
            connect_args=mine | {"prepare_threshold": None},
        )
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
