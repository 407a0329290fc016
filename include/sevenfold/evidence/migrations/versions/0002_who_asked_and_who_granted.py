"""Who asked and who granted: requests that need a second person, and the text of every gate that judged"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("policies", "requests", "grants")


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_policies")),
    )
    op.create_table(
        "requests",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_kind", "requests", ["kind", "subject"], unique=False)
    op.create_table(
        "grants",
        sa.Column("request", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["requests.sequence"], name=op.f("fk_grants_request")),
        sa.PrimaryKeyConstraint("request", name=op.f("pk_grants")),
    )
    op.add_column("overrides", sa.Column("request", sa.Integer(), nullable=True))
    _append_only()


def _append_only() -> None:
    """The database itself refuses to change or delete these rows, as it does for all evidence."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in APPEND_ONLY:
        for action in ("UPDATE", "DELETE"):
            if postgresql:
                body = "FOR EACH STATEMENT EXECUTE FUNCTION sevenfold_append_only()"
            else:
                body = f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
            op.execute(f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} {body}")
