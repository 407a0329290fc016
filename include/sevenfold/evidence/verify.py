"""Checking the evidence as a whole: signatures, digests, reports, and the audit log against the tables."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, Row, select

from sevenfold.evidence import audit, cross_check
from sevenfold.evidence.artifacts import ArtifactStore, MissingArtifact
from sevenfold.evidence.passing import check
from sevenfold.evidence.statement import BadStatement
from sevenfold.evidence.store import Store, find_promotion
from sevenfold.evidence.tables import statements
from sevenfold.people.override import needs_two
from sevenfold.people.request import find_requests, flaw


def verify(
    store: Store, promotion_id: str | None = None, artifacts: ArtifactStore | None = None
) -> list[str]:
    """One sentence for each thing that is not as it was written; nothing when all evidence stands.

    Of one promotion or of all. The bytes of reports are checked where `artifacts` is given.
    """
    with store.reading() as connection:
        return problems(connection, store, promotion_id, artifacts)


def problems(
    connection: Connection,
    store: Store,
    promotion_id: str | None = None,
    artifacts: ArtifactStore | None = None,
) -> list[str]:
    """The same, of what a transaction sees."""
    query = select(statements).order_by(statements.c.sequence)
    if promotion_id is not None:
        find_promotion(connection, promotion_id)
        query = query.where(statements.c.promotion == promotion_id)
    log = audit.lines(connection)
    found = audit.problems(log)
    hashes = {line.sequence: line.hash for line in log} | {0: audit.GENESIS}
    rows = connection.execute(query).all()
    found += cross_check.problems(connection, log, promotion_id)
    found += _unsigned(connection, store) if promotion_id is None else []
    for row in rows:
        try:
            statement = check(connection, store.keys, row)
        except BadStatement as error:
            found.append(f"The statement of promotion {row.promotion} does not count, for {error}.")
            continue
        found += _log_problems(row, statement, hashes)
        found += _report_problems(row, statement, artifacts) if artifacts else []
    return found


def _unsigned(connection: Connection, store: Store) -> list[str]:
    """Granted requests that two people did not sign: of those that need two."""
    found = []
    for request in find_requests(connection):
        if request.granted_by is None:
            continue
        if request.kind == "override" and not needs_two(
            find_promotion(connection, request.subject).environment
        ):
            continue
        found.append(flaw(store.people, request))
    return [one for one in found if one]


def _log_problems(row: Row[Any], statement: dict[str, Any], hashes: dict[int, str]) -> list[str]:
    """A statement names the log's last line at its time: lines cut off the end, or another log, show."""
    seen = statement["predicate"]["sevenfold"]["audit"]
    if hashes.get(seen["sequence"]) == seen["hash"]:
        return []
    return [
        f"The audit log is not the one that promotion {row.promotion} was signed under: "
        f"line {seen['sequence']} is gone or another."
    ]


def _report_problems(row: Row[Any], statement: dict[str, Any], artifacts: ArtifactStore) -> list[str]:
    found = []
    for entry in statement["predicate"]["inputAttestations"]:
        if entry["uri"].startswith("sevenfold:"):
            continue
        try:
            digest = hashlib.sha256(artifacts.read(entry["uri"])).hexdigest()
        except MissingArtifact:
            found.append(f"The report {entry['uri']} of promotion {row.promotion} is gone.")
            continue
        if digest != entry["digest"]["sha256"]:
            found.append(f"The report {entry['uri']} of promotion {row.promotion} was altered.")
    return found
