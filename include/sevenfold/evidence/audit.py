"""The audit log: who did what, append-only, each line hashed together with the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sevenfold.evidence.tables import audit

GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditLine:
    """One line of the log; `hash` covers it and, by `previous`, all lines before it."""

    sequence: int
    at: datetime
    who: str
    what: str
    detail: dict[str, Any]
    previous: str
    hash: str


def append(connection: Connection, who: str, what: str, detail: Mapping[str, Any] | str) -> AuditLine:
    """Adds a line. The connection must be in a write transaction: there is one writer at a time."""
    sequence, previous = head(connection)
    content = {"note": detail} if isinstance(detail, str) else dict(detail)
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    at = datetime.now(UTC)
    line = AuditLine(sequence + 1, at, who, what, json.loads(body), previous, "")
    line = AuditLine(**{**vars(line), "hash": _hash(line)})
    connection.execute(insert(audit).values(**{**vars(line), "detail": body}))
    return line


def head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last line; (0, zeros) for an empty log."""
    last = connection.execute(
        select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
    ).first()
    return (last.sequence, last.hash) if last else (0, GENESIS)


def lines(connection: Connection, what: str | None = None) -> list[AuditLine]:
    """The whole log, oldest first, or its lines about one kind of event."""
    wanted = select(audit) if what is None else select(audit).where(audit.c.what == what)
    rows = connection.execute(wanted.order_by(audit.c.sequence)).mappings()
    return [AuditLine(**{**row, "detail": json.loads(row["detail"])}) for row in rows]


def problems(log: list[AuditLine]) -> list[str]:
    """One sentence for each place where the chain is broken; nothing for a log as it was written."""
    found = []
    previous = GENESIS
    for number, line in enumerate(log, start=1):
        if line.sequence != number:
            found.append(f"The audit log has line {line.sequence} where line {number} should be.")
            break
        if line.previous != previous or line.hash != _hash(line):
            found.append(f"Line {number} of the audit log is not what was written: its hash does not fit.")
            break
        previous = line.hash
    return found


def _hash(line: AuditLine) -> str:
    content = [line.sequence, line.at.isoformat(), line.who, line.what, line.detail, line.previous]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
