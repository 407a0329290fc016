"""Requests: what one person asks for and another one grants, each with a signature of their own.

An override, a changed gate and another anchor all loosen what a candidate has to show, so they all go this
way. Nothing changes while a request is open; whoever reads it afterwards sees both people and both reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select

from sevenfold.candidates.candidate import Utc
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.tables import grants, requests
from sevenfold.settings import settings

if TYPE_CHECKING:
    from sevenfold.evidence.store import Store
    from sevenfold.people.identity import People

Kind = Literal["override", "gate", "anchor"]

ASKED, GRANTED = "asked", "granted"
"""What the audit log calls the two halves."""


class SamePerson(SevenfoldError):
    """Requester and approver are one person where two are needed."""


class BadRequest(SevenfoldError):
    """A request or a grant without a reason, a name, a signature, or of what it says."""


class Request(BaseModel):
    """What somebody asked for, and who granted it; the latter is None while it is open."""

    model_config = ConfigDict(frozen=True)

    number: int
    kind: Kind
    subject: str
    terms: dict[str, Any]
    reason: str
    requested_by: str
    envelope: str | None
    at: Utc
    granted_by: str | None = None
    granted_because: str | None = None
    grant: str | None = None
    granted_at: Utc | None = None


def wording(kind: Kind, subject: str, terms: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """What the requester signs."""
    return {"asks for": kind, "of": subject, "terms": dict(terms), "reason": reason}


def granting(request: Request, reason: str) -> dict[str, Any]:
    """What the approver signs: this very request, with all that it says."""
    asked = wording(request.kind, request.subject, request.terms, request.reason)
    text = json.dumps([request.number, request.requested_by, asked], sort_keys=True)
    return {"grants": request.number, "sha256": hashlib.sha256(text.encode()).hexdigest(), "reason": reason}


def ask(
    connection: Connection,
    people: People,
    kind: Kind,
    subject: str,
    terms: Mapping[str, Any],
    reason: str,
    by: str,
    envelope: str | None = None,
) -> Request:
    """Keeps a request. With an `envelope` the requester is whoever signed it, and has to be called `by`.

    Raises:
        BadRequest: there is no reason or no name, or the envelope says something else.
        UnknownPerson: nobody known signed the envelope.
    """
    _require_words(reason, by)
    if envelope is not None:
        _require_signed(people, envelope, wording(kind, subject, terms, reason), by)
    row = {
        "kind": kind,
        "subject": subject,
        "terms": json.dumps(dict(terms), sort_keys=True),
        "reason": reason,
        "requested_by": by,
        "envelope": envelope,
        "at": datetime.now(UTC),
    }
    number = connection.execute(insert(requests).values(row).returning(requests.c.sequence)).scalar_one()
    detail = {"request": number, "kind": kind, "subject": subject, "terms": dict(terms), "reason": reason}
    audit.append(connection, by, ASKED, detail)
    return find_request(connection, number)


def grant(
    connection: Connection,
    people: People,
    number: int,
    reason: str,
    by: str,
    envelope: str | None = None,
    *,
    two_people: bool = True,
) -> Request:
    """Grants an open request; granted twice it stays as it is. The caller carries out what was asked for.

    With `two_people` (and settings().four_eyes) requester and approver have to be two, both by signature.

    Raises:
        SamePerson: they are one.
        BadRequest, UnknownPerson: see `ask`.
    """
    request = find_request(connection, number)
    if request.granted_by is not None:
        return request
    _require_words(reason, by)
    if envelope is not None:
        _require_signed(people, envelope, granting(request, reason), by)
    if two_people and settings().four_eyes:
        _require_two(request, by, envelope)
    row = {"request": number, "granted_by": by, "reason": reason, "envelope": envelope}
    connection.execute(insert(grants).values(row | {"at": datetime.now(UTC)}))
    audit.append(connection, by, GRANTED, {"request": number, "reason": reason})
    return find_request(connection, number)


def find_request(connection: Connection, number: int) -> Request:
    """The request.

    Raises:
        BadRequest: there is none of this number.
    """
    found = _found(connection, requests.c.sequence == number)
    if not found:
        raise BadRequest(f"There is no request number {number}.")
    return found[0]


def find_requests(
    connection: Connection, kind: Kind | None = None, subject: str | None = None
) -> list[Request]:
    """Requests, oldest first, open and granted."""
    which: list[Any] = [] if kind is None else [requests.c.kind == kind]
    which += [] if subject is None else [requests.c.subject == subject]
    return _found(connection, *which)


def open_requests(store: Store) -> list[Request]:
    """The requests that wait for somebody, oldest first."""
    with store.reading() as connection:
        return [request for request in find_requests(connection) if request.granted_by is None]


def flaw(people: People, request: Request) -> str | None:
    """Why a granted request is not what two people signed, in one sentence; None when it is.

    Where settings().four_eyes is off, one person is enough, and a name.
    """
    from sevenfold.people.identity import UnknownPerson

    if not settings().four_eyes:
        return None
    what = f"Request {request.number} ({request.kind} of {request.subject})"
    if request.envelope is None or request.grant is None:
        return f"{what} is not signed by two people."
    asked = wording(request.kind, request.subject, request.terms, request.reason)
    try:
        _require_signed(people, request.envelope, asked, request.requested_by)
        granted = granting(request, request.granted_because or "")
        _require_signed(people, request.grant, granted, request.granted_by or "")
        _require_two(request, request.granted_by or "", request.grant)
    except (UnknownPerson, BadRequest, SamePerson) as error:
        return f"{what} is not what two people signed: {error}"
    return None


def _require_words(reason: str, by: str) -> None:
    if not (reason.strip() and by.strip()):
        raise BadRequest("It needs a reason and a person's name.")


def _require_signed(people: People, envelope: str, content: Mapping[str, Any], by: str) -> None:
    signed = people.who_signed(envelope)
    if signed.name != by:
        raise BadRequest(f"{signed.name} signed it, not {by}.")
    if dict(signed.content) != dict(content):
        raise BadRequest(f"{by} signed something else than what it says.")


def _require_two(request: Request, by: str, envelope: str | None) -> None:
    if request.requested_by.strip().lower() == by.strip().lower():
        raise SamePerson(
            f"Request {request.number} was made by {request.requested_by}: somebody else has to grant it."
        )
    if request.envelope is None or envelope is None:
        raise BadRequest(
            f"Request {request.number} needs two people, each with a key of their own: "
            f"{request.requested_by if request.envelope is None else by} has signed nothing."
        )


def _found(connection: Connection, *which: Any) -> list[Request]:
    query = (
        select(
            requests.c.sequence.label("number"),
            *(column for column in requests.c if column.name != "sequence"),
            grants.c.granted_by,
            grants.c.reason.label("granted_because"),
            grants.c.envelope.label("grant"),
            grants.c.at.label("granted_at"),
        )
        .outerjoin(grants, grants.c.request == requests.c.sequence)
        .where(*which)
        .order_by(requests.c.sequence)
    )
    rows = connection.execute(query).mappings()
    return [Request.model_validate({**row, "terms": json.loads(row["terms"])}) for row in rows]
