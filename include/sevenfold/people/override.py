"""An override: a named person's exemption from a gate. It never erases the failed analysis that it lifts.

Where users meet the candidate, in preproduction and production, one person asks for it and another one grants
it, each with a key of their own (sevenfold.people.request). Elsewhere one person is enough.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select

from sevenfold.candidates.candidate import Utc
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.store import Store, find_promotion
from sevenfold.evidence.tables import overrides
from sevenfold.people.request import Request, ask, find_request, flaw, grant
from sevenfold.release.promotion import Promotion

if TYPE_CHECKING:
    from sevenfold.gates.analysis import AnalysisRun
    from sevenfold.people.identity import People

EVERYTHING = "*"
LONGEST = timedelta(days=90)
"""An exemption for longer than this is a change of the policy, and belongs there."""
OVERRIDDEN = "override"
"""What the audit log calls it."""


class BadOverride(SevenfoldError):
    """An override without a reason, a scope, or a fit expiry."""


class Override(BaseModel):
    """Who exempts a promotion from which metrics (`*` for all), why, and until when."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    promotion: str
    requested_by: str
    approved_by: str
    reason: str
    scope: tuple[str, ...]
    expires_at: Utc
    at: Utc
    request: int | None = None

    def covers(self, analysis: AnalysisRun, now: datetime) -> bool:
        """Whether it is valid and lifts every metric that stands in the way; a moved bar it never lifts."""
        if now >= self.expires_at or not analysis.accepted:
            return False
        in_the_way = {
            result.metric for result in analysis.metrics if result.decides and result.verdict != "Successful"
        }
        return EVERYTHING in self.scope or (bool(in_the_way) and in_the_way <= set(self.scope))

    def summary(self) -> dict[str, Any]:
        """What a statement says about it."""
        return self.model_dump(mode="json", exclude={"sequence", "promotion"})


def needs_two(environment: str) -> bool:
    """Whether an override there needs two people: where users meet the candidate."""
    return environment in ("preproduction", "production")


def terms_of(scope: Sequence[str], expires_at: datetime) -> dict[str, Any]:
    """What an override is about, as its requester signs it."""
    return {"scope": list(scope), "expires_at": expires_at.astimezone(UTC).isoformat()}


def request_override(
    store: Store,
    promotion_id: str,
    by: str,
    reason: str,
    scope: Sequence[str],
    expires_at: datetime,
    envelope: str | None = None,
) -> Request:
    """Asks for an exemption. Where one person is enough it is in force at once.

    Raises:
        BadOverride: no reason, no scope, or an expiry that is past or too far away.
        BadRequest, UnknownPerson: see sevenfold.people.request.ask.
    """
    _require_fit(promotion_id, by, reason, scope, expires_at)
    with store.writing() as connection:
        promotion = _open(connection, promotion_id)
        terms = terms_of(scope, expires_at)
        asked = ask(connection, store.people, "override", promotion_id, terms, reason, by, envelope)
        if needs_two(promotion.environment):
            return asked
        granted = grant(connection, store.people, asked.number, reason, by, two_people=False)
        _take_effect(connection, store, granted)
        return granted


def grant_override(store: Store, number: int, by: str, reason: str, envelope: str | None = None) -> Promotion:
    """Grants the exemption; a promotion that has ended refused, held or in error is promoted by it.

    A production promotion must still be running: what it held of the release row is gone once it has ended.

    Raises:
        SamePerson: requester and approver are one.
        BadRequest, UnknownPerson: see sevenfold.people.request.grant.
        BadOverride: it has expired meanwhile, or the promotion cannot be brought back.
    """
    with store.writing() as connection:
        asked = find_request(connection, number)
        promotion = _open(connection, asked.subject)
        _require_fit(
            promotion.id, by, reason, asked.terms["scope"], datetime.fromisoformat(asked.terms["expires_at"])
        )
        two = needs_two(promotion.environment)
        granted = grant(connection, store.people, number, reason, by, envelope, two_people=two)
        if asked.granted_by is None:
            _take_effect(connection, store, granted)
        return find_promotion(connection, promotion.id)


def find_override(
    connection: Connection, people: People, promotion: Promotion, analysis: AnalysisRun, now: datetime
) -> Override | None:
    """The newest valid override that lifts what is in the way; where it takes two, one that both signed."""
    for given in reversed(find_overrides(connection, promotion.id)):
        if given.covers(analysis, now) and _counts(connection, people, promotion.environment, given):
            return given
    return None


def stands(connection: Connection, people: People, promotion: Promotion, sequence: int) -> bool:
    """Whether the override of this number is one of the promotion's and, where it takes two, both signed."""
    return any(
        given.sequence == sequence and _counts(connection, people, promotion.environment, given)
        for given in find_overrides(connection, promotion.id)
    )


def find_overrides(connection: Connection, promotion: str) -> list[Override]:
    """The overrides of a promotion, oldest first, expired ones too."""
    query = select(overrides).where(overrides.c.promotion == promotion).order_by(overrides.c.sequence)
    rows = connection.execute(query).mappings()
    return [Override.model_validate({**row, "scope": json.loads(row["scope"])}) for row in rows]


def _counts(connection: Connection, people: People, environment: str, given: Override) -> bool:
    return not needs_two(environment) or _is_signed(connection, people, given)


def _is_signed(connection: Connection, people: People, given: Override) -> bool:
    """Whether two people signed exactly this: a row that was slipped into the database lifts nothing."""
    if given.request is None:
        return False
    request = find_request(connection, given.request)
    said = (request.kind, request.subject, request.terms, request.granted_by)
    meant = ("override", given.promotion, terms_of(given.scope, given.expires_at), given.approved_by)
    return said == meant and flaw(people, request) is None


def _open(connection: Connection, promotion_id: str) -> Promotion:
    promotion = find_promotion(connection, promotion_id)
    if promotion.environment == "production" and promotion.state != "running":
        raise BadOverride(
            f"Promotion {promotion_id} has ended ({promotion.state}): start a new run, an override "
            "cannot bring its traffic back."
        )
    return promotion


def _take_effect(connection: Connection, store: Store, granted: Request) -> None:
    from sevenfold.gates.conclude import conclude_again

    now, expires_at = datetime.now(UTC), datetime.fromisoformat(granted.terms["expires_at"])
    connection.execute(
        insert(overrides).values(
            promotion=granted.subject,
            requested_by=granted.requested_by,
            approved_by=granted.granted_by,
            reason=granted.reason,
            scope=json.dumps(granted.terms["scope"]),
            expires_at=expires_at,
            at=now,
            request=granted.number,
        )
    )
    detail = {
        "promotion": granted.subject,
        "requested_by": granted.requested_by,
        "reason": granted.reason,
        "scope": granted.terms["scope"],
        "expires_at": expires_at.isoformat(),
        "request": granted.number,
    }
    audit.append(connection, granted.granted_by or "", OVERRIDDEN, detail)
    conclude_again(connection, store.keys, granted.subject, now)


def _require_fit(promotion: str, by: str, reason: str, scope: Sequence[str], expires_at: datetime) -> None:
    what, now = f"The override of promotion {promotion}", datetime.now(UTC)
    if not (reason.strip() and by.strip()):
        raise BadOverride(f"{what} needs a reason and a person's name.")
    if not scope:
        raise BadOverride(f"{what} needs a scope: the metrics that it lifts, or '{EVERYTHING}'.")
    if not now < expires_at <= now + LONGEST:
        raise BadOverride(f"{what} needs an expiry within {LONGEST.days} days, not {expires_at:%Y-%m-%d}.")
