"""An override: a named person's exemption from a gate. It never erases the failed analysis that it lifts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select

from sevenfold import audit
from sevenfold.approval import require_four_eyes
from sevenfold.candidate import Utc
from sevenfold.errors import SevenfoldError
from sevenfold.promotion import Promotion
from sevenfold.store import Store, find_promotion
from sevenfold.tables import overrides

if TYPE_CHECKING:
    from sevenfold.analysis import AnalysisRun

EVERYTHING = "*"
LONGEST = timedelta(days=90)
"""An exemption for longer than this is a change of the policy, and belongs there."""


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

    def covers(self, analysis: AnalysisRun, now: datetime) -> bool:
        """Whether it is valid and lifts every metric that stands in the way."""
        if now >= self.expires_at:
            return False
        in_the_way = {
            result.metric for result in analysis.metrics if result.decides and result.verdict != "Successful"
        }
        return EVERYTHING in self.scope or (bool(in_the_way) and in_the_way <= set(self.scope))

    def summary(self) -> dict[str, Any]:
        """What a statement says about it."""
        return self.model_dump(mode="json", exclude={"sequence", "promotion"})


def override(
    store: Store,
    promotion_id: str,
    requested_by: str,
    approved_by: str,
    reason: str,
    scope: Sequence[str],
    expires_at: datetime,
) -> Promotion:
    """Exempts a promotion. One that has ended refused, held or in error is promoted, with a new statement.

    Where users meet the candidate (preproduction, production), two people are needed. A production promotion
    must still be running: what it held of the release row is gone once it has ended.

    Raises:
        BadOverride: no reason, no scope, or an expiry that is past or too far away.
        SamePerson: requester and approver are one.
    """
    from sevenfold.conclude import conclude_again

    now = datetime.now(UTC)
    _require_fit(promotion_id, requested_by, approved_by, reason, scope, expires_at, now)
    with store.writing() as connection:
        promotion = find_promotion(connection, promotion_id)
        if promotion.environment in ("preproduction", "production"):
            require_four_eyes(promotion_id, requested_by, approved_by)
        if promotion.environment == "production" and promotion.state != "running":
            raise BadOverride(
                f"Promotion {promotion_id} has ended ({promotion.state}): start a new run, an override "
                "cannot bring its traffic back."
            )
        connection.execute(
            insert(overrides).values(
                promotion=promotion_id,
                requested_by=requested_by,
                approved_by=approved_by,
                reason=reason,
                scope=json.dumps(list(scope)),
                expires_at=expires_at,
                at=now,
            )
        )
        detail = {"promotion": promotion_id, "requested_by": requested_by, "reason": reason, "scope": scope}
        audit.append(connection, approved_by, "override", {**detail, "expires_at": expires_at.isoformat()})
        conclude_again(connection, store.keys.signer, promotion_id, now)
        return find_promotion(connection, promotion_id)


def find_override(
    connection: Connection, promotion: str, analysis: AnalysisRun, now: datetime
) -> Override | None:
    """The newest valid override that lifts what stands in the way of the promotion."""
    return next(
        (given for given in reversed(find_overrides(connection, promotion)) if given.covers(analysis, now)),
        None,
    )


def find_overrides(connection: Connection, promotion: str) -> list[Override]:
    """The overrides of a promotion, oldest first, expired ones too."""
    query = select(overrides).where(overrides.c.promotion == promotion).order_by(overrides.c.sequence)
    rows = connection.execute(query).mappings()
    return [Override.model_validate({**row, "scope": json.loads(row["scope"])}) for row in rows]


def _require_fit(
    promotion: str,
    requested_by: str,
    approved_by: str,
    reason: str,
    scope: Sequence[str],
    expires_at: datetime,
    now: datetime,
) -> None:
    what = f"The override of promotion {promotion}"
    if not (reason.strip() and requested_by.strip() and approved_by.strip()):
        raise BadOverride(f"{what} needs a reason, a requester and an approver.")
    if not scope:
        raise BadOverride(f"{what} needs a scope: the metrics that it lifts, or '{EVERYTHING}'.")
    if not now < expires_at <= now + LONGEST:
        raise BadOverride(f"{what} needs an expiry within {LONGEST.days} days, not {expires_at:%Y-%m-%d}.")
