"""Who may write what in the evidence store, as roles of PostgreSQL: the database itself refuses the rest.

All roles read everything, and none of them can change or delete evidence. An activity writes readings and
reports about promotions of its own environment only (row-level security). Only the promoter judges and signs:
Airflow's own tasks. Release rows are written by it and by its hands: the activities of production that move
live traffic, and preproduction's shadow, which may have a candidate mirrored, whose answers no caller gets.
What they may make of a row, the database itself says: release_law.sql.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sqlalchemy import URL, Connection, text

from sevenfold.environments import before
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.database import WRITE_LOCK, Database, database_url
from sevenfold.evidence.tables import metadata, numbered, search_schema
from sevenfold.secrets import mounted, private_folder, write_private

PREFIX = "sevenfold"
RELEASE_LAW = Path(__file__).with_name("release_law.sql")
NEIGHBOURS = ("airflow", "mlflow")
"""Who else may have a database on the same server: each its own, of which it is the owner."""
Columns = dict[str, tuple[str, ...]]

READINGS = ("measurements", "reports", "audit")
MADE = ("candidates", "policies")
CARRIES: Columns = {"promotions": ("candidate",)}
ENDS: Columns = {"promotions": ("state", "verdict", "outcome", "ended_at")}
RELEASE = ("release_rows", "release_history", "roll_backs")
CLOSES: Columns = {"alerts": ("state", "outcome", "closed_at")}
ROW = ("champion", "previous", "candidate", "promotion", "share", "mirror", "generation", "held")


class NoRoles(SevenfoldError):
    """The database has no roles: it is SQLite."""


@dataclass(frozen=True)
class Rights:
    """What a role may write: rows that it may add, and columns that it may change.

    `about`: the environments whose promotions it may write about; None for all.
    """

    inserts: tuple[str, ...] = ()
    updates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deletes: tuple[str, ...] = ()
    about: tuple[str, ...] | None = None
    searches: bool = False


RIGHTS: Mapping[str, Rights] = {
    "development": Rights((*READINGS, *MADE), CARRIES, about=("development",), searches=True),
    "training": Rights((*READINGS, *MADE), CARRIES, about=("training",), searches=True),
    "testing": Rights((*READINGS, "test_set_uses"), about=("testing",)),
    "staging": Rights(READINGS, about=("staging",)),
    "preproduction": Rights((*READINGS, "test_set_uses"), about=("preproduction",)),
    "preproduction_promoter": Rights(
        (*READINGS, "release_history"),
        {"release_rows": ("candidate", "promotion", "mirror", "generation")},
        about=("preproduction",),
    ),
    "production": Rights(READINGS, about=("production",)),
    "production_promoter": Rights(
        (*READINGS, *RELEASE, "clocks"),
        {"release_rows": ROW, "clocks": ("moment",)} | ENDS,
        # a person who goes back ends whatever is being tried, in the shadow too
        about=("production", "preproduction"),
    ),
    "monitoring": Rights((*READINGS, "alerts"), CARRIES | CLOSES, about=("monitoring",)),
    "promoter": Rights(
        (
            *("promotions", "analyses", "statements", "revocations", "overrides", "requests", "grants"),
            *("approvals", "policies", "test_set_uses", *RELEASE, "clocks", "audit"),
        ),
        {"release_rows": ROW, "clocks": ("moment",), "promotions": ("candidate", *ENDS["promotions"])}
        | CLOSES,
        deletes=("clocks",),
    ),
    "server": Rights(),
    "gateway": Rights(),
}
"""Each environment's activities by its name, those that move live traffic as its `_promoter`; `promoter`:
Airflow's tasks, and people's commands."""

ABOUT = {
    "measurements": "promotion",
    "reports": "promotion",
    "test_set_uses": "promotion",
    "promotions": "id",
}
"""The tables in which a role sees all rows and writes some, with the column that says whose they are."""


def grant_roles(database: Database, prefix: str = PREFIX, logins: Path | None = None) -> list[str]:
    """Makes the roles `<prefix>_<name>` with exactly their rights, in one transaction; returns their names.

    With `logins` each may log in, and `logins/<name>` holds its URL, with a password made the first time; a
    folder that is mounted, as a Secret is, stays as it is. If it holds URLs of neighbours as well, they get a
    database each.

    Raises:
        NoRoles: this is SQLite.
        NotAllowed: who asks may make no roles, or owns no tables.
    """
    if not database.is_postgresql:
        raise NoRoles(f"{database.name} has no roles: a file is whose it is; roles are for PostgreSQL.")
    database.require_prepared()
    names = {name: f"{prefix}_{name}" for name in RIGHTS}
    passwords = _passwords(logins, RIGHTS) if logins else {}
    neighbours = {name: url for name in NEIGHBOURS if logins and (url := _kept(logins / name))}
    with database.writing() as connection:
        for name, role in names.items():
            _role(connection, role)
            if name in passwords:
                _let_in(connection, role, passwords[name])
            for statement in _granted(connection, role, RIGHTS[name], name):
                connection.exec_driver_sql(statement)
        for statement in _row_by_row(connection, names):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(_release_law(connection))
    if logins and not mounted(logins):
        for name, password in passwords.items():
            _keep(logins / name, database.url.set(username=names[name], password=password))
    for url in neighbours.values():
        _make_room(database, url)
    return [*names.values(), *neighbours]


def _role(connection: Connection, role: str) -> None:
    if not role.isidentifier() or not role.isascii() or role != role.lower():
        raise SevenfoldError(f"{role} is no name of a role: letters a to z, digits and underscores.")
    there = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    if there is None:
        connection.exec_driver_sql(f"CREATE ROLE {role}")


def _let_in(connection: Connection, role: str, password: str) -> None:
    """The server gets a verifier only: no log of its own ever has the password."""
    import psycopg

    raw = cast("psycopg.Connection", connection.connection.driver_connection)
    verifier = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.exec_driver_sql(f"ALTER ROLE {role} LOGIN PASSWORD '{verifier}'")


def _granted(connection: Connection, role: str, rights: Rights, name: str) -> Iterator[str]:
    """Nothing, then what it may."""
    schema, database = connection.execute(text("SELECT current_schema(), current_database()")).one()
    yield f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}"
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}"
    yield f'GRANT CONNECT ON DATABASE "{database}" TO {role}'
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    yield f"GRANT SELECT ON {', '.join((*metadata.tables, 'alembic_version'))} TO {role}"
    for table in rights.inserts:
        yield f"GRANT INSERT ON {table} TO {role}"
        if (column := numbered(metadata.tables[table])) is not None:
            query = text("SELECT pg_get_serial_sequence(:table, :column)")
            sequence = connection.scalar(query, {"table": table, "column": column})
            yield f"GRANT USAGE ON SEQUENCE {sequence} TO {role}"
    for table, columns in rights.updates.items():
        yield f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {role}"
    for table in rights.deletes:
        yield f"GRANT DELETE ON {table} TO {role}"
    if rights.searches:
        yield f"CREATE SCHEMA IF NOT EXISTS {search_schema(name)}"
        yield f"GRANT USAGE, CREATE ON SCHEMA {search_schema(name)} TO {role}"


def _row_by_row(connection: Connection, names: Mapping[str, str]) -> Iterator[str]:
    """Which rows of a table a role may write; others are refused, not passed over."""
    query = text("SELECT tablename, policyname FROM pg_policies WHERE schemaname = current_schema()")
    for table, policy in connection.execute(query):
        yield f'DROP POLICY "{policy}" ON {table}'
    yield "ALTER TABLE release_rows DISABLE ROW LEVEL SECURITY"  # an earlier version had policies there
    for table in ABOUT:
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        yield f"CREATE POLICY everybody_reads ON {table} FOR SELECT USING (true)"
        for name, rights in RIGHTS.items():
            role, check = names[name], f"WITH CHECK ({_which(table, rights)})"
            if table in rights.inserts:
                yield f"CREATE POLICY {name}_adds ON {table} FOR INSERT TO {role} {check}"
            if table in rights.updates:
                yield f"CREATE POLICY {name}_changes ON {table} FOR UPDATE TO {role} USING (true) {check}"


def _which(table: str, rights: Rights) -> str:
    if rights.about is None:
        return "true"
    environments = ", ".join(f"'{environment}'" for environment in rights.about)
    own = f"split_part({ABOUT[table]}, '/', 2) IN ({environments})"  # <model>/<environment>/<run>
    carries = table == "promotions" and rights.updates.get(table) == CARRIES[table]
    return f"{own} AND state = 'running'" if carries else own


def _release_law(connection: Connection) -> str:
    """What a role may make of a release row, as functions and triggers."""
    told = {
        "{schema}": str(connection.scalar(text("SELECT current_schema()"))),
        "{lock}": str(WRITE_LOCK),
        "{before_preproduction}": ", ".join(f"'{environment}'" for environment in before("preproduction")),
    }
    law = RELEASE_LAW.read_text()
    for name, value in told.items():
        law = law.replace(name, value)
    return law


def _passwords(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Those that stand in the files already, else new ones; in a folder that is mounted none is made."""
    kept = {name: url.password for name in names if (url := _kept(folder / name)) and url.password}
    fresh = {} if mounted(folder) else {name: secrets.token_urlsafe(24) for name in names}
    return fresh | kept


def _kept(file: Path) -> URL | None:
    return database_url(file.read_text().strip()) if file.is_file() else None


def _make_room(database: Database, url: URL) -> None:
    """A role and a database of its own, for which PostgreSQL wants no transaction."""
    with database.writing() as connection:
        _role(connection, str(url.username))
        _let_in(connection, str(url.username), str(url.password))
        connection.exec_driver_sql(f"GRANT {url.username} TO CURRENT_USER")  # who makes it an owner
    with database.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        query = text("SELECT 1 FROM pg_database WHERE datname = :name")
        if alone.scalar(query, {"name": url.database}) is None:
            alone.exec_driver_sql(f"CREATE DATABASE {url.database} OWNER {url.username}")


def _keep(file: Path, url: URL) -> None:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    private_folder(file.parent)
    write_private(file, plain)
