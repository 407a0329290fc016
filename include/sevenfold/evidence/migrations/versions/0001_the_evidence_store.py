"""The evidence store"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("window", sa.String(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("model", "kind", "window", name=op.f("uq_alerts_model")),
    )
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
    )
    op.create_table(
        "candidates",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
    )
    op.create_index(op.f("ix_candidates_model"), "candidates", ["model"], unique=False)
    op.create_table(
        "clocks",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("moment", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_clocks")),
    )
    op.create_table(
        "release_history",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("champion", sa.String(), nullable=True),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("candidate", sa.String(), nullable=True),
        sa.Column("promotion", sa.String(), nullable=True),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("mirror", sa.Float(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_release_history")),
        sa.UniqueConstraint("model", "generation", name=op.f("uq_release_history_model")),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("candidate", sa.String(), nullable=True),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.id"], name=op.f("fk_promotions_candidate")),
        sa.ForeignKeyConstraint(["origin"], ["candidates.id"], name=op.f("fk_promotions_origin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    op.create_index("ix_promotions_candidate", "promotions", ["candidate"], unique=False)
    op.create_index("ix_promotions_model", "promotions", ["model", "environment"], unique=False)
    op.create_table(
        "roll_backs",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("after_statement", sa.Integer(), nullable=False),
        sa.Column("after_approval", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.id"], name=op.f("fk_roll_backs_candidate")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_roll_backs")),
        sa.UniqueConstraint("model", "generation", name=op.f("uq_roll_backs_model")),
    )
    op.create_table(
        "analyses",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("policy_hash", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("clock", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_analyses_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_analyses")),
        sa.UniqueConstraint("promotion", "digest", name=op.f("uq_analyses_promotion")),
    )
    op.create_table(
        "approvals",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("approver", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_approvals_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_approvals")),
        sa.UniqueConstraint("promotion", "approver", name=op.f("uq_approvals_promotion")),
    )
    op.create_index("ix_approvals_candidate", "approvals", ["candidate"], unique=False)
    op.create_table(
        "measurements",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("activity", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_measurements_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_measurements")),
        sa.UniqueConstraint("promotion", "key", name=op.f("uq_measurements_promotion")),
    )
    op.create_index("ix_measurements_promotion", "measurements", ["promotion"], unique=False)
    op.create_table(
        "overrides",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_overrides_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_overrides")),
    )
    op.create_index("ix_overrides_promotion", "overrides", ["promotion"], unique=False)
    op.create_table(
        "release_rows",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("champion", sa.String(), nullable=True),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("candidate", sa.String(), nullable=True),
        sa.Column("promotion", sa.String(), nullable=True),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("mirror", sa.Float(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.id"], name=op.f("fk_release_rows_candidate")),
        sa.ForeignKeyConstraint(["champion"], ["candidates.id"], name=op.f("fk_release_rows_champion")),
        sa.ForeignKeyConstraint(["previous"], ["candidates.id"], name=op.f("fk_release_rows_previous")),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_release_rows_promotion")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_release_rows")),
    )
    op.create_table(
        "reports",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("activity", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_reports_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_reports")),
        sa.UniqueConstraint("path", "sha256", name=op.f("uq_reports_path")),
    )
    op.create_index("ix_reports_promotion", "reports", ["promotion"], unique=False)
    op.create_table(
        "revocations",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("relied", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_revocations_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_revocations")),
        sa.UniqueConstraint("promotion", name=op.f("uq_revocations_promotion")),
    )
    op.create_table(
        "test_set_uses",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_test_set_uses_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_test_set_uses")),
        sa.UniqueConstraint("promotion", "digest", name=op.f("uq_test_set_uses_promotion")),
    )
    op.create_index("ix_test_set_uses_model", "test_set_uses", ["model", "digest"], unique=False)
    op.create_table(
        "statements",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("promotion", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("environment", sa.String(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("analysis", sa.String(), nullable=False),
        sa.Column("override", sa.Integer(), nullable=True),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["override"], ["overrides.sequence"], name=op.f("fk_statements_override")),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_statements_promotion")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_statements")),
    )
    op.create_index("ix_statements_promotion", "statements", ["promotion"], unique=False)
    op.create_index("ix_statements_candidate", "statements", ["candidate", "environment"], unique=False)
    _append_only()


APPEND_ONLY = (
    "candidates",
    "measurements",
    "analyses",
    "statements",
    "revocations",
    "overrides",
    "approvals",
    "reports",
    "test_set_uses",
    "release_history",
    "roll_backs",
    "audit",
)


def _append_only() -> None:
    """The database itself refuses to change or delete evidence, whoever asks."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute(
            """
            CREATE FUNCTION sevenfold_append_only() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the table % is append-only', TG_TABLE_NAME; END $$
            """
        )
    for table in APPEND_ONLY:
        for action in ("UPDATE", "DELETE"):
            name = f"{table}_no_{action.lower()}"
            if postgresql:
                body = "FOR EACH STATEMENT EXECUTE FUNCTION sevenfold_append_only()"
            else:
                body = f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
            op.execute(f"CREATE TRIGGER {name} BEFORE {action} ON {table} {body}")
