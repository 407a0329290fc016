"""The tables of the evidence store. SQLite and PostgreSQL; migrations/ brings a database to this shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

SCHEMA = "0002"
"""The migration that this file stands for."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """A moment, always with its time zone: SQLite drops it, so UTC goes in and comes out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _sequence() -> Column[int]:
    """Rows in the order in which they were written, whatever the clocks say."""
    return Column("sequence", Integer, primary_key=True, autoincrement=True)


def _promotion(**more: Any) -> Column[str]:
    return Column("promotion", String, ForeignKey("promotions.id"), nullable=False, **more)


candidates = Table(
    "candidates",
    metadata,
    Column("id", String, primary_key=True),
    Column("model", String, nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("run", String, nullable=False),
    Column("origin", String, ForeignKey("candidates.id")),
    Column("candidate", String, ForeignKey("candidates.id")),
    Column("as_of", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("state", String, nullable=False),
    Column("verdict", String),
    Column("outcome", Text),
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Index("ix_promotions_model", "model", "environment"),
    Index("ix_promotions_candidate", "candidate"),
)

measurements = Table(
    "measurements",
    metadata,
    _sequence(),
    _promotion(),
    Column("activity", String, nullable=False),
    Column("key", String),
    Column("body", Text, nullable=False),
    Index("ix_measurements_promotion", "promotion"),
    UniqueConstraint("promotion", "key"),
)

analyses = Table(
    "analyses",
    metadata,
    _sequence(),
    _promotion(),
    Column("candidate", String, nullable=False),
    Column("policy_hash", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("judged_at", UtcTime, nullable=False),
    Column("clock", UtcTime),
    UniqueConstraint("promotion", "digest"),
)

statements = Table(
    "statements",
    metadata,
    _sequence(),
    _promotion(),
    Column("candidate", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("result", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("analysis", String, nullable=False),
    Column("override", Integer, ForeignKey("overrides.sequence")),
    Column("envelope", Text, nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Index("ix_statements_promotion", "promotion"),
    Index("ix_statements_candidate", "candidate", "environment"),
)

revocations = Table(
    "revocations",
    metadata,
    _sequence(),
    _promotion(unique=True),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("relied", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

overrides = Table(
    "overrides",
    metadata,
    _sequence(),
    _promotion(),
    Column("requested_by", String, nullable=False),
    Column("approved_by", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("request", Integer),
    Index("ix_overrides_promotion", "promotion"),
)

policies = Table(
    "policies",
    metadata,
    Column("hash", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    _sequence(),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("terms", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("envelope", Text),
    Column("at", UtcTime, nullable=False),
    Index("ix_requests_kind", "kind", "subject"),
)

grants = Table(
    "grants",
    metadata,
    Column("request", Integer, ForeignKey("requests.sequence"), primary_key=True, autoincrement=False),
    Column("granted_by", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("envelope", Text),
    Column("at", UtcTime, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    _sequence(),
    _promotion(),
    Column("candidate", String, nullable=False),
    Column("approver", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_approvals_candidate", "candidate"),
    UniqueConstraint("promotion", "approver"),
)

reports = Table(
    "reports",
    metadata,
    _sequence(),
    _promotion(),
    Column("activity", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("path", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("ix_reports_promotion", "promotion"),
    UniqueConstraint("path", "sha256"),
)

test_set_uses = Table(
    "test_set_uses",
    metadata,
    _sequence(),
    _promotion(),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("promotion", "digest"),
    Index("ix_test_set_uses_model", "model", "digest"),
)

release_rows = Table(
    "release_rows",
    metadata,
    Column("model", String, primary_key=True),
    Column("champion", String, ForeignKey("candidates.id")),
    Column("previous", String, ForeignKey("candidates.id")),
    Column("candidate", String, ForeignKey("candidates.id")),
    Column("promotion", String, ForeignKey("promotions.id")),
    Column("share", Float, nullable=False),
    Column("mirror", Float, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("held", Text),
)

release_history = Table(
    "release_history",
    metadata,
    _sequence(),
    Column("model", String, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("champion", String),
    Column("previous", String),
    Column("candidate", String),
    Column("promotion", String),
    Column("share", Float, nullable=False),
    Column("mirror", Float, nullable=False),
    Column("held", Text),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("model", "generation"),
)

roll_backs = Table(
    "roll_backs",
    metadata,
    _sequence(),
    Column("model", String, nullable=False),
    Column("candidate", String, ForeignKey("candidates.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("after_statement", Integer, nullable=False),
    Column("after_approval", Integer, nullable=False),
    UniqueConstraint("model", "generation"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("window", String, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("severity", String, nullable=False),
    Column("value", Float),
    Column("reason", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("outcome", Text),
    Column("raised_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    UniqueConstraint("model", "kind", "window"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
)

clocks = Table(
    "clocks",
    metadata,
    Column("model", String, primary_key=True),
    Column("moment", UtcTime, nullable=False),
)


def numbered(table: Table) -> str | None:
    """The column that the database numbers by itself, if there is one."""
    column = table.autoincrement_column
    return column.name if column is not None and column.autoincrement is True else None


def search_schema(environment: str) -> str:
    """The schema beside these tables in which the trials of an environment's searches lie."""
    return f"search_{environment}"
