"""What makes a change of the release row lawful: evidence, a person's approval, no hold, no old roll-back.

S1 to S4 are the invariants of the same name that the tests of the row check after every fault.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from sevenfold.environments import before
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.passing import EvidenceLacking, lacking, require, says_passed, unapproved
from sevenfold.evidence.signing import Keys
from sevenfold.evidence.store import find_promotion
from sevenfold.evidence.tables import release_history, roll_backs
from sevenfold.release.promotion import Promotion, PromotionEnd, PromotionEnded
from sevenfold.release.release_row import ReleaseRow, SlotBusy, Unlawful, crowned, is_reversal


class OnHold(SevenfoldError):
    """Promotion of this model waits for a person since a roll-back."""


def require_lawful(
    connection: Connection, keys: Keys, now: ReleaseRow, after: ReleaseRow, end: PromotionEnd | None
) -> None:
    """Raises unless the row may go from `now` to `after`, with `end` as what ends the promotion.

    Raises:
        Unlawful: no such step exists, or what it needs is not proven.
        SlotBusy: another candidate is being tried.
        OnHold: promotion waits for a person.
        PromotionEnded: it is about a promotion that has ended.
        EvidenceLacking: the candidate's evidence does not reach so far.
    """
    same = (after.model, after.generation) == (now.model, now.generation)
    off = after.candidate is None and after.promotion is None and not after.share and not after.mirror
    on = after.candidate is not None and after.promotion is not None
    if not (same and (off or on) and 0 <= after.share <= 1 and 0 <= after.mirror <= 1):
        raise Unlawful(f"The release row of {now.model} cannot become {after}.")
    if after.champion != now.champion:
        if is_reversal(now, after):
            _require_reversal(connection, keys, now, after)
        elif now.promotion is not None and after == crowned(now, now.promotion):
            _require_crown(connection, keys, now, end)
        else:
            raise Unlawful(f"The release row of {now.model} cannot become {after}.")
    elif after.previous != now.previous:
        raise Unlawful(f"The one before the champion of {now.model} follows from roll-outs, nobody sets it.")
    if after.promotion is not None:
        _require_exposure(connection, keys, now, after)


def _require_crown(connection: Connection, keys: Keys, now: ReleaseRow, end: PromotionEnd | None) -> None:
    """S1: a champion has passed everything, and its promotion ends with it."""
    promotion = find_promotion(connection, now.promotion or "")
    if end is None or (end.promotion, end.state) != (promotion.id, "promoted"):
        raise Unlawful(f"Promotion {promotion.id} has to end as promoted with its candidate as champion.")
    _require_production(connection, keys, now, promotion)
    if not says_passed(connection, promotion.id):
        raise EvidenceLacking(f"Promotion {promotion.id} has no passing statement of production.")
    require(connection, keys, promotion.candidate or "", ["production"], datetime.now(UTC))


def _require_exposure(connection: Connection, keys: Keys, now: ReleaseRow, after: ReleaseRow) -> None:
    """S1: a candidate meets requests only as far as its evidence goes."""
    promotion = find_promotion(connection, after.promotion or "")
    if now.promotion not in (None, promotion.id):
        raise SlotBusy(f"Candidate {now.candidate} of promotion {now.promotion} is being tried.")
    another = now.promotion is None or after.candidate != now.candidate
    if not (another or after.share > now.share or after.mirror > now.mirror):
        return
    if promotion.candidate != after.candidate or promotion.model != after.model:
        raise Unlawful(f"Promotion {promotion.id} carries {promotion.candidate}, not {after.candidate}.")
    if promotion.environment == "production":
        _require_production(connection, keys, after, promotion)
    elif promotion.environment == "preproduction" and not after.share:
        require_running(promotion)
        needed = before("preproduction")
        require(connection, keys, promotion.candidate or "", needed, datetime.now(UTC))
    else:
        raise Unlawful(f"Promotion {promotion.id} of {promotion.environment} gets no live requests.")


def _require_production(connection: Connection, keys: Keys, row: ReleaseRow, promotion: Promotion) -> None:
    """All that lets a candidate answer users; after a roll-back it needs a new record (S4)."""
    require_running(promotion)
    if row.held is not None:
        raise OnHold(f"Promotion of {row.model} is on hold ({row.held}) until a person releases it.")
    candidate = promotion.candidate or ""
    now = datetime.now(UTC)
    require(connection, keys, candidate, before("production"), now)
    rolled = last_roll_back(connection, row.model, candidate)
    after_statement, after_approval = (rolled.after_statement, rolled.after_approval) if rolled else (0, 0)
    missing = lacking(connection, keys, candidate, "preproduction", now, after_statement) or unapproved(
        connection, candidate, after_approval, promotion.id
    )
    if missing:
        again = " It was rolled back, so it needs a new record." if rolled else ""
        raise EvidenceLacking(missing + again)


def _require_reversal(connection: Connection, keys: Keys, now: ReleaseRow, after: ReleaseRow) -> None:
    """S4: back only to a champion that was not itself rolled back, and whose evidence still stands."""
    if after.champion is None or after.champion != now.previous or after.held is None or after.promotion:
        raise Unlawful(
            f"The champion of {now.model} cannot become {after.champion}: only the candidate being tried "
            f"({now.candidate}) or the one before ({now.previous}) can."
        )
    served = select(release_history.c.generation).where(release_history.c.model == now.model)
    mine = release_history.c.champion == after.previous
    if after.previous is not None and connection.scalar(served.where(mine).limit(1)) is None:
        raise Unlawful(f"{after.previous} never served {now.model}: nobody could go back to it.")
    if not unspoilt(connection, now.model, after.champion):
        raise Unlawful(f"Candidate {after.champion} was itself rolled back: it cannot serve again.")
    needed = (*before("production"), "production")
    require(connection, keys, after.champion, needed, None)


def require_running(promotion: Promotion) -> None:
    """Raises PromotionEnded unless the promotion still runs."""
    if promotion.state != "running":
        raise PromotionEnded(f"Promotion {promotion.id} has ended ({promotion.state}): {promotion.outcome}")


def last_roll_back(connection: Connection, model: str, candidate: str) -> Any:
    """The newest row of `roll_backs` about this candidate, or None."""
    query = select(roll_backs).where(roll_backs.c.model == model, roll_backs.c.candidate == candidate)
    return connection.execute(query.order_by(roll_backs.c.sequence.desc()).limit(1)).first()


def unspoilt(connection: Connection, model: str, candidate: str) -> bool:
    """Whether the candidate was never rolled back, or became champion by a new record since."""
    rolled = last_roll_back(connection, model, candidate)
    if rolled is None:
        return True
    history = release_history
    again = select(history.c.generation).where(
        history.c.model == model, history.c.champion == candidate, history.c.generation > rolled.generation
    )
    return connection.scalar(again.limit(1)) is not None
