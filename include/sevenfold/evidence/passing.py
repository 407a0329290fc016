"""What a candidate has shown: the one place that says whether evidence lets it pass, or what is lacking."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, or_, select

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.statement import BadStatement, digest_of, subjects, verified
from sevenfold.evidence.store import find_candidate, find_promotion
from sevenfold.evidence.tables import analyses, approvals, measurements, promotions, revocations, statements
from sevenfold.people import gate_change, override

if TYPE_CHECKING:
    from sevenfold.evidence.signing import Keys


class EvidenceLacking(SevenfoldError):
    """A candidate has not shown what it needs for the step."""


def require(
    connection: Connection, keys: Keys, candidate: str, environments: Iterable[str], now: datetime | None
) -> None:
    """Returns when the candidate has passed all `environments`.

    Raises:
        EvidenceLacking: with the first thing that is lacking.
    """
    for environment in environments:
        missing = lacking(connection, keys, candidate, environment, now)
        if missing:
            raise EvidenceLacking(missing)


def lacking(
    connection: Connection,
    keys: Keys,
    candidate: str,
    environment: str,
    now: datetime | None,
    after: int = 0,
) -> str | None:
    """Why the candidate has not passed `environment`, in one sentence; None when it has.

    The last statement with a say counts: one that passed, or one whose verdict is Failed. A run that ended
    without a proof either way takes nothing away. `now` is when an override must be valid, None for whenever;
    statements up to number `after` are too old to count.
    """
    where = f"Candidate {candidate} has not passed {environment}"
    query = (
        select(statements)
        .where(statements.c.candidate == candidate, statements.c.environment == environment)
        .where(or_(statements.c.result == "PASSED", statements.c.verdict == "Failed"))
        .where(statements.c.sequence > after)
        .order_by(statements.c.sequence.desc())
        .limit(1)
    )
    last = connection.execute(query).first()
    if last is None:
        return f"{where}: there is no {'new ' if after else ''}signed statement of it."
    if last.result != "PASSED":
        return f"{where}: promotion {last.promotion} was refused."
    revoked = connection.scalar(select(revocations.c.reason).where(revocations.c.promotion == last.promotion))
    if revoked is not None:
        return f"{where}: the evidence of promotion {last.promotion} was revoked ({revoked})."
    try:
        statement = check(connection, keys, last)
    except BadStatement as error:
        return f"{where}: the statement of promotion {last.promotion} does not count, for {error}."
    exempt = statement["predicate"]["sevenfold"]["override"]
    if now is not None and exempt is not None:
        until = datetime.fromisoformat(exempt["expires_at"])
        if until <= now:
            return f"{where}: the override of promotion {last.promotion} expired on {until:%Y-%m-%d %H:%M}."
    return None


def unapproved(
    connection: Connection, candidate: str, after: int = 0, promotion: str | None = None
) -> str | None:
    """Why no person's approval lets the candidate into production; None when one does.

    An approval of a production promotion counts for that promotion alone, one of preproduction for the
    candidate. Without `promotion` the question is whether anybody ever approved the candidate.
    """
    query = select(approvals.c.sequence).where(
        approvals.c.candidate == candidate, approvals.c.sequence > after
    )
    if promotion is not None:
        query = query.join(promotions, promotions.c.id == approvals.c.promotion).where(
            or_(promotions.c.id == promotion, promotions.c.environment == "preproduction")
        )
    if connection.scalar(query.limit(1)) is None:
        there = f", in promotion {promotion}" if promotion else ""
        return (
            f"No person has approved candidate {candidate} for production{' again' if after else ''}{there}."
        )
    return None


def last_statement(connection: Connection, promotion_id: str) -> Row[Any] | None:
    """The newest statement of a promotion."""
    query = select(statements).where(statements.c.promotion == promotion_id)
    return connection.execute(query.order_by(statements.c.sequence.desc()).limit(1)).first()


def says_passed(connection: Connection, promotion_id: str) -> bool:
    """Whether the promotion's own newest statement, not one of an earlier run, is a passing one."""
    last = last_statement(connection, promotion_id)
    return last is not None and last.result == "PASSED"


def check(connection: Connection, keys: Keys, row: Row[Any]) -> dict[str, Any]:
    """The statement in a row of `statements`, checked against all that it rests on.

    Raises:
        BadStatement: it was altered, or what it was made of was.
    """
    statement = verified(row.envelope, keys.trusted)
    about, predicate = statement["predicate"]["sevenfold"], statement["predicate"]
    candidate = find_candidate(connection, row.candidate)
    if statement["subject"] != subjects(candidate):
        raise BadStatement(f"its digests are not those of candidate {row.candidate}")
    said = (about["promotion"], about["candidate"], about["environment"], predicate["verificationResult"])
    if said != (row.promotion, row.candidate, row.environment, row.result):
        raise BadStatement("it is about something else than the row that holds it")
    gate = predicate["policy"]["digest"]["sha256"]
    if row.result == "PASSED" and gate not in gate_change.accepted(
        connection, keys.people, candidate, row.environment
    ):
        raise BadStatement("the gate was changed after the candidate was made and nobody let it through")
    if bool(about["override"]) != (row.override is not None):
        raise BadStatement("its override is not the one of the row that holds it")
    if row.override is not None:
        promotion = find_promotion(connection, row.promotion)
        if not override.stands(connection, keys.people, promotion, row.override):
            raise BadStatement("its override is not one that two people signed")
    inputs = {entry["uri"]: entry["digest"]["sha256"] for entry in predicate["inputAttestations"]}
    if inputs[f"sevenfold:analysis/{row.promotion}"] != _analysis_digest(connection, row):
        raise BadStatement("the analysis that it rests on is gone or was altered")
    readings = measured(connection, row.promotion, about["measurements"]["last"])[0]
    if inputs[f"sevenfold:measurements/{row.promotion}"] != readings:
        raise BadStatement("the measurements that it rests on were altered")
    return statement


def measured(connection: Connection, promotion: str, last: int | None = None) -> tuple[str, int, int]:
    """Digest and number of a promotion's readings, and the sequence of the last one (up to `last`)."""
    query = select(measurements.c.sequence, measurements.c.body).where(measurements.c.promotion == promotion)
    if last is not None:
        query = query.where(measurements.c.sequence <= last)
    rows = connection.execute(query.order_by(measurements.c.sequence)).all()
    return digest_of([row.body for row in rows]), len(rows), rows[-1].sequence if rows else 0


def _analysis_digest(connection: Connection, row: Row[Any]) -> str | None:
    query = select(analyses.c.body).where(
        analyses.c.promotion == row.promotion, analyses.c.digest == row.analysis
    )
    body = connection.scalar(query)
    return hashlib.sha256(body.encode()).hexdigest() if body is not None else None
