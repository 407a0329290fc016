"""A person's approval: without one no candidate answers users."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, or_, select

from sevenfold.candidates.candidate import Utc
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.store import Store, find_candidate, find_promotion
from sevenfold.evidence.tables import approvals, promotions
from sevenfold.people.request import SamePerson
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings

__all__ = ["Approval", "BadApproval", "SamePerson", "record_approval"]

ENVIRONMENTS = ("preproduction", "production")
"""Where a person approves what users will meet."""


NOBODY = "sevenfold"
"""Who requests what an asset, an alert or the schedule started."""


class BadApproval(SevenfoldError):
    """An approval without a name, or of a promotion that needs none."""


class Approval(BaseModel):
    """Who let which candidate into production, and why."""

    model_config = ConfigDict(frozen=True)

    sequence: int
    promotion: str
    candidate: str
    approver: str
    reason: str
    at: Utc


def record_approval(store: Store, promotion_id: str, approver: str, reason: str) -> Approval:
    """Keeps a person's approval of the promotion's candidate; the same one twice is kept once.

    Raises:
        BadApproval: nobody approves, the promotion has no candidate, or its environment asks for no approval.
        SamePerson: the approver requested the promotion, or one of this candidate or of one that it came
            from, and settings().four_eyes asks for two people.
    """
    with store.writing() as connection:
        promotion = find_promotion(connection, promotion_id)
        if promotion.environment not in ENVIRONMENTS or promotion.candidate is None:
            raise BadApproval(f"Promotion {promotion_id} is none that a person approves for production.")
        if not approver.strip():
            raise BadApproval(f"The approval of promotion {promotion_id} names no person.")
        for person in [promotion.requested_by, *sorted(_requesters(connection, promotion))]:
            require_four_eyes(promotion_id, person, approver)
        mine = select(approvals).where(
            approvals.c.promotion == promotion_id,
            approvals.c.approver == approver,
            approvals.c.candidate == promotion.candidate,
        )
        if connection.execute(mine).first() is None:
            connection.execute(
                insert(approvals).values(
                    promotion=promotion_id,
                    candidate=promotion.candidate,
                    approver=approver,
                    reason=reason,
                    at=datetime.now(UTC),
                )
            )
            detail = {"promotion": promotion_id, "candidate": promotion.candidate, "reason": reason}
            audit.append(connection, approver, "approved", detail)
        return Approval.model_validate(dict(connection.execute(mine).mappings().one()))


def approvals_of(store: Store, candidate: str) -> list[Approval]:
    """The approvals of a candidate, oldest first."""
    query = select(approvals).where(approvals.c.candidate == candidate).order_by(approvals.c.sequence)
    with store.reading() as connection:
        return [Approval.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def requesters(store: Store, promotion: Promotion) -> list[str]:
    """The people who asked for this promotion or one before it; none if it was an alert or the schedule."""
    with store.reading() as connection:
        return sorted(_requesters(connection, promotion))


def require_four_eyes(promotion: str, requester: str, approver: str) -> None:
    """Returns when two people are not needed, or are two.

    Raises:
        SamePerson: they are one.
    """
    if settings().four_eyes and requester.strip().lower() == approver.strip().lower():
        raise SamePerson(f"Promotion {promotion} was requested by {requester}: somebody else has to approve.")


def _requesters(connection: Connection, promotion: Promotion) -> set[str]:
    """Every person who asked for a promotion of this candidate, or of one that it came from."""
    people: set[str] = {promotion.requested_by}
    seen: set[str] = set()
    waiting = [promotion.candidate, promotion.origin]
    while waiting:
        candidate = waiting.pop()
        if candidate is None or candidate in seen:
            continue
        seen.add(candidate)
        same = or_(promotions.c.candidate == candidate, promotions.c.origin == candidate)
        moves = connection.execute(select(promotions).where(same)).all()
        people |= {move.requested_by for move in moves}
        waiting += [move.origin for move in moves if move.candidate == candidate]
        waiting.append(find_candidate(connection, candidate).parent)
    return people - {NOBODY}
