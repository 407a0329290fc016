"""Tables against the audit log: a row that nobody logged was slipped in, a line without one lost its row.

Whoever can write the database can write both, but not the heads of the log that signed statements name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from sevenfold.evidence.audit import AuditLine
from sevenfold.evidence.statement import SIGNED
from sevenfold.evidence.store import LOOKED
from sevenfold.evidence.tables import (
    approvals,
    candidates,
    grants,
    overrides,
    promotions,
    release_history,
    release_rows,
    requests,
    revocations,
    roll_backs,
    statements,
    test_set_uses,
)
from sevenfold.people.override import OVERRIDDEN
from sevenfold.people.request import ASKED, GRANTED
from sevenfold.release.promotion import ENDS
from sevenfold.release.release_row import ReleaseRow, is_reversal

Detail = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """A table whose every row has its line in the audit log: who wrote it, and what of it stands there."""

    table: Table
    what: str
    words: str
    who: Callable[[Row[Any]], str]
    detail: Callable[[Row[Any]], Detail]


def _columns(*names: str) -> Callable[[Row[Any]], Detail]:
    return lambda row: {name: getattr(row, name) for name in names}


LEDGERS = (
    Ledger(
        statements, SIGNED, "statement", lambda _: "gate",
        _columns("promotion", "candidate", "result", "analysis"),
    ),
    Ledger(
        approvals, "approved", "approval", lambda row: row.approver,
        _columns("promotion", "candidate", "reason"),
    ),
    Ledger(
        overrides, OVERRIDDEN, "override", lambda row: row.approved_by,
        lambda row: {
            "promotion": row.promotion, "requested_by": row.requested_by, "reason": row.reason,
            "scope": json.loads(row.scope), "expires_at": row.expires_at.isoformat(), "request": row.request,
        },
    ),
    Ledger(
        revocations, "evidence revoked", "revocation", lambda row: row.who,
        lambda row: {"promotion": row.promotion, "reason": row.reason, "relied": json.loads(row.relied)},
    ),
    Ledger(
        requests, ASKED, "request", lambda row: row.requested_by,
        lambda row: {
            "request": row.sequence, "kind": row.kind, "subject": row.subject,
            "terms": json.loads(row.terms), "reason": row.reason,
        },
    ),
    Ledger(grants, GRANTED, "grant", lambda row: row.granted_by, _columns("request", "reason")),
    Ledger(
        promotions, "promotion begun", "beginning", lambda row: row.requested_by,
        lambda row: {"promotion": row.id, "candidate": row.origin, "reason": row.reason},
    ),
    Ledger(
        candidates, "candidate added", "candidate", lambda _: "sevenfold", lambda row: {"candidate": row.id}
    ),
    Ledger(
        test_set_uses, LOOKED, "look at a test set", lambda _: "sevenfold", _columns("promotion", "digest")
    ),
    Ledger(
        release_history, "release row changed", "change of the release row", lambda row: row.who,
        _columns("model", "generation", "reason"),
    ),
)  # fmt: skip


def problems(connection: Connection, log: Sequence[AuditLine], promotion: str | None = None) -> list[str]:
    """One sentence for each thing that only one of log and tables knows; of one promotion or of all."""
    found = [one for ledger in LEDGERS for one in _of_ledger(connection, ledger, log, promotion)]
    found += _ends(connection, log, promotion)
    if promotion is None:
        found += _release(connection)
    return found


def _of_ledger(
    connection: Connection, ledger: Ledger, log: Sequence[AuditLine], promotion: str | None
) -> Iterator[str]:
    rows = [(ledger.who(row), ledger.detail(row)) for row in connection.execute(select(ledger.table))]
    keys = set(rows[0][1]) if rows else None
    lines = [(line.who, line.detail) for line in log if line.what == ledger.what]
    if promotion is not None:
        rows, lines = ([one for one in of if one[1].get("promotion") == promotion] for of in (rows, lines))
    there = Counter(_text(*row, keys) for row in rows)
    logged = Counter(_text(*line, keys) for line in lines)
    for text in (logged - there).elements():
        yield f"The {ledger.words} {_about(text)} is gone, or is not as it was written."
    for text in (there - logged).elements():
        yield f"The audit log does not know the {ledger.words} {_about(text)}."


def _ends(connection: Connection, log: Sequence[AuditLine], promotion: str | None) -> Iterator[str]:
    """A promotion's state is what the last line about its end says."""
    said = {f"promotion {end}": end for end in ENDS}
    ended = {line.detail["promotion"]: said[line.what] for line in log if line.what in said}
    for row in connection.execute(select(promotions)):
        logged = ended.get(row.id, "running")
        if promotion in (None, row.id) and row.state != logged:
            yield f"Promotion {row.id} is {row.state}, and the audit log says {logged}."


def _release(connection: Connection) -> Iterator[str]:
    """The release row is the last of its history, and every reversal in that stands as a roll-back."""
    fields = list(ReleaseRow.__dataclass_fields__)
    history: dict[str, list[ReleaseRow]] = {}
    query = select(release_history).order_by(release_history.c.model, release_history.c.generation)
    for row in connection.execute(query):
        history.setdefault(row.model, []).append(ReleaseRow(**{name: getattr(row, name) for name in fields}))
    rows = {row["model"]: ReleaseRow(**row) for row in connection.execute(select(release_rows)).mappings()}
    for model in rows.keys() | history.keys():
        if rows.get(model) != history.get(model, [None])[-1]:
            yield f"The release row of {model} is not the last one of its history."
    noted = {(row.model, row.candidate, row.generation) for row in connection.execute(select(roll_backs))}
    happened = {
        (after.model, now.champion, after.generation)
        for changes in history.values()
        for now, after in pairwise(changes)
        if is_reversal(now, after)
    }
    for model, candidate, _ in sorted(noted ^ happened):
        yield f"The roll-back of {candidate} of {model} is only in one of its two records."


def _text(who: str, detail: Detail, keys: set[str] | None) -> str:
    kept = {key: value for key, value in detail.items() if keys is None or key in keys}
    return json.dumps([who, kept], sort_keys=True, default=str)


def _about(text: str) -> str:
    who, detail = json.loads(text)
    subject = next(
        (
            f"of {name} {detail[name]}"
            for name in ("promotion", "request", "candidate", "model")
            if detail.get(name)
        ),
        "",
    )
    return f"{subject} by {who}" if who not in ("gate", "sevenfold") else subject
