"""Taking evidence back: what was found later counts, and everything that relied on it is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, insert, select

from sevenfold.candidates.candidate import Utc
from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.passing import last_statement
from sevenfold.evidence.store import Store, find_promotion
from sevenfold.evidence.tables import promotions, revocations
from sevenfold.release.promotion import Promotion, PromotionEnd
from sevenfold.release.release import find_row, finish


class NothingToRevoke(SevenfoldError):
    """The promotion has no statement that anybody could rely on."""


class Revocation(BaseModel):
    """Evidence taken back.

    `relied` names the later promotions of the candidate, `serves` says whether it is the champion now.
    """

    model_config = ConfigDict(frozen=True)

    promotion: str
    who: str
    reason: str
    relied: tuple[str, ...]
    serves: bool
    at: Utc


def revoke(store: Store, promotion_id: str, by: str, reason: str) -> Revocation:
    """Takes back the evidence of a promotion and names what relied on it; the first revocation stays.

    A candidate that is being tried on it loses its traffic at once. A champion goes on serving until a person
    rolls it back: a finding on paper must not stop production.

    Raises:
        NothingToRevoke: nothing was concluded about the promotion.
    """
    with store.writing() as connection:
        promotion = find_promotion(connection, promotion_id)
        if last_statement(connection, promotion_id) is None:
            raise NothingToRevoke(f"Promotion {promotion_id} has no statement that could be revoked.")
        same = select(revocations).where(revocations.c.promotion == promotion_id)
        now = find_row(connection, promotion.model)
        if connection.execute(same).first() is None:
            relied = _relied(connection, promotion)
            values = {"promotion": promotion_id, "who": by, "reason": reason, "relied": json.dumps(relied)}
            connection.execute(insert(revocations).values(**values, at=datetime.now(UTC)))
            audit.append(connection, by, "evidence revoked", {**values, "relied": relied})
            if now.promotion is not None and now.promotion in relied:
                why = f"the evidence of {promotion_id} was revoked: {reason}"
                finish(connection, PromotionEnd(now.promotion, "refused", "Failed", why), by)
        kept = dict(connection.execute(same).mappings().one())
        serves = promotion.candidate is not None and now.champion == promotion.candidate
        return Revocation.model_validate({**kept, "relied": json.loads(kept["relied"]), "serves": serves})


def _relied(connection: Connection, promotion: Promotion) -> list[str]:
    """The promotions of the same candidate into later environments, in their order."""
    later = ENVIRONMENTS[ENVIRONMENTS.index(promotion.environment) + 1 :]
    query = (
        select(promotions.c.id)
        .where(promotions.c.candidate == promotion.candidate, promotions.c.environment.in_(later))
        .order_by(promotions.c.began_at, promotions.c.id)
    )
    return list(connection.scalars(query))
