"""What production serves: one row a model, changed only by compare-and-swap on its generation.

Every change checks the evidence itself, in the transaction that makes it, and carries the end mark of the
promotion that it finishes. The router and the registry's aliases are derived from the row (see reconcile).
Each step may be killed and repeated at any point, and two tries of one step may overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.passing import EvidenceLacking, last_statement
from sevenfold.evidence.store import Store, find_promotion
from sevenfold.evidence.tables import (
    analyses,
    approvals,
    promotions,
    release_history,
    release_rows,
    roll_backs,
    statements,
)
from sevenfold.release.promotion import END_OF, Promotion, PromotionEnd, PromotionEnded
from sevenfold.release.release_law import require_lawful, require_running, unspoilt
from sevenfold.release.release_row import (
    NotClaimed,
    NothingBefore,
    ReleaseRow,
    Unlawful,
    claimed,
    crowned,
    exposed,
    is_reversal,
    reverted,
    traffic,
    vacated,
)

__all__ = [
    "ReleaseRow",
    "change",
    "claim",
    "generations",
    "promote",
    "roll_back",
    "row",
    "set_mirror",
    "set_share",
    "traffic",
]

ATTEMPTS = 100
"""How often a step looks again after losing a compare-and-swap before it says so."""


class StaleGeneration(SevenfoldError):
    """The row has changed since it was read; look again and decide again."""

    retry = True


# The steps: read, decide, compare and swap; again when somebody else was faster


def row(store: Store, model: str) -> ReleaseRow:
    """The row of a model; generation 0 before its first change."""
    with store.reading() as connection:
        return find_row(connection, model)


def generations(store: Store) -> dict[str, int]:
    """The generation of every model's row, in one look; a model before its first change has none."""
    with store.reading() as connection:
        rows = connection.execute(select(release_rows.c.model, release_rows.c.generation))
        return {one.model: one.generation for one in rows}


def claim(store: Store, promotion_id: str, by: str, reason: str = "claimed") -> ReleaseRow:
    """Takes the model's slot for a promotion of preproduction (to mirror) or production (to share).

    Raises:
        SlotBusy: another promotion has it.
        OnHold: production is on hold since a roll-back.
        EvidenceLacking: an earlier environment has no valid passing statement, or nobody approved.
        PromotionEnded: this promotion has ended.
    """
    promotion = _running(store, promotion_id)
    return _act(store, promotion, by, reason, lambda now: (claimed(now, promotion), None))


def set_share(store: Store, promotion_id: str, share: float, by: str, reason: str = "") -> ReleaseRow:
    """Gives the candidate at least `share` (0 to 1) of the requests.

    It never takes some away: a late duplicate of an earlier step changes nothing. `vacate` takes it off.

    Raises:
        NotClaimed, OnHold, EvidenceLacking, PromotionEnded: see `claim`.
    """
    promotion = _running(store, promotion_id)
    why = reason or f"share {share:.0%}"
    return _act(store, promotion, by, why, lambda now: (exposed(now, promotion_id, share, None), None))


def set_mirror(store: Store, promotion_id: str, mirror: float, by: str, reason: str = "") -> ReleaseRow:
    """Lets the candidate see `mirror` (0 to 1) of the requests; its answers are thrown away."""
    promotion = _running(store, promotion_id)
    why = reason or f"mirror {mirror:.0%}"
    return _step(
        store, promotion.model, by, why, lambda now: (exposed(now, promotion_id, None, mirror), None)
    )


def vacate(store: Store, promotion_id: str, by: str, reason: str) -> ReleaseRow:
    """Takes the candidate off and leaves the promotion running; does nothing when it is off."""
    model = store.promotion(promotion_id).model
    return _step(store, model, by, reason, lambda now: (vacated(now, promotion_id), None))


def promote(store: Store, promotion_id: str, by: str) -> ReleaseRow:
    """Makes the candidate the champion and ends the promotion, in one transaction.

    Repeated after it was done it changes nothing.

    Raises:
        EvidenceLacking: an environment up to production has no valid passing statement.
        NotClaimed, OnHold, PromotionEnded: see `claim`.
    """
    promotion = store.promotion(promotion_id)
    if promotion.state == "promoted":
        return row(store, promotion.model)
    require_running(promotion)
    with store.reading() as connection:
        _, verdict, reason = _judged(connection, promotion_id)
    end = PromotionEnd(promotion_id, "promoted", verdict, reason)
    try:
        return _act(store, promotion, by, reason, lambda now: (crowned(now, promotion_id), end))
    except PromotionEnded:
        if store.promotion(promotion_id).state != "promoted":
            raise
        return row(store, promotion.model)


def withdraw(store: Store, promotion_id: str, by: str, verdict: str, reason: str) -> ReleaseRow:
    """Takes the candidate off, leaves the champion as it is, and ends the promotion, in one transaction.

    One that has ended changes nothing. Failed leaves a hold.
    """
    with store.writing() as connection:
        end = PromotionEnd(promotion_id, END_OF[verdict], verdict, reason)
        finish(connection, end, by, hold=verdict == "Failed")
        return find_row(connection, find_promotion(connection, promotion_id).model)


def settle(store: Store, promotion_id: str, by: str) -> ReleaseRow:
    """Does what the signed conclusion of a production promotion says: promote it, or withdraw it.

    One that has ended, by this or by a roll-back, changes nothing.

    Raises:
        EvidenceLacking: nothing was concluded.
    """
    promotion = store.promotion(promotion_id)
    if promotion.state != "running":
        return row(store, promotion.model)
    with store.reading() as connection:
        result, verdict, reason = _judged(connection, promotion_id)
    if result == "PASSED":
        return _promote_unless_ended(store, promotion, by)
    return withdraw(store, promotion_id, by, verdict, reason)


def roll_back(store: Store, model: str, by: str, reason: str, champion: str | None = None) -> ReleaseRow:
    """Goes back from `champion` to the one before it and holds further promotion, in one transaction.

    Naming the champion makes it safe to repeat: when it is champion no more, nothing changes. Without a name
    it is the one that serves now. A candidate that is being tried is taken off and its promotion superseded.

    Raises:
        NothingBefore: there is no one to go back to.
        EvidenceLacking: the evidence of the one before was revoked or altered.
    """

    worse = champion or row(store, model).champion
    if worse is None:
        raise NothingBefore(f"{model} has no champion: there is nothing to roll back.")

    def decide(now: ReleaseRow) -> tuple[ReleaseRow, PromotionEnd | None]:
        after = reverted(now, worse, _one_before(store, now), reason)
        if after is now or now.promotion is None:
            return after, None
        return after, PromotionEnd(now.promotion, "superseded", "Inconclusive", f"rolled back: {reason}")

    return _step(store, model, by, reason, decide)


def call_off(store: Store, model: str, by: str, reason: str) -> ReleaseRow:
    """Takes the candidate that is being tried off, ends its promotion and holds others, in one transaction.

    The champion stays. Nothing changes when nobody is being tried.
    """

    def decide(now: ReleaseRow) -> tuple[ReleaseRow, PromotionEnd | None]:
        if now.promotion is None:
            return now, None
        end = PromotionEnd(now.promotion, "superseded", "Inconclusive", f"rolled back: {reason}")
        return replace(vacated(now, now.promotion), held=reason), end

    return _step(store, model, by, reason, decide)


def hold(store: Store, model: str, by: str, reason: str) -> ReleaseRow:
    """Lets nothing be promoted until `release_hold`; the first reason stays."""
    return _step(store, model, by, reason, lambda now: (now if now.held else replace(now, held=reason), None))


def release_hold(store: Store, model: str, by: str, reason: str) -> ReleaseRow:
    """Lets candidates be promoted again."""
    return _step(store, model, by, reason, lambda now: (replace(now, held=None), None))


def change(
    store: Store,
    model: str,
    generation: int,
    by: str,
    reason: str,
    end: PromotionEnd | None = None,
    **fields: Any,
) -> ReleaseRow:
    """Changes fields of the row when it is still of `generation`; all steps end here.

    Raises:
        StaleGeneration: the row has changed since.
        Unlawful: no step makes such a change.
        EvidenceLacking: the change needs evidence that is not there.
    """
    with store.writing() as connection:
        now = find_row(connection, model)
        if now.generation != generation:
            raise StaleGeneration(
                f"The release row of {model} is at generation {now.generation}, not {generation}: look again."
            )
        after = replace(now, **fields)
        if after == now and end is None:
            return now
        require_lawful(connection, store.keys, now, after, end)
        return _swap(connection, now, after, by, reason, end)


# What a transaction of another module needs, on its own connection


def find_row(connection: Connection, model: str) -> ReleaseRow:
    """The row of a model; generation 0 before its first change."""
    found = connection.execute(select(release_rows).where(release_rows.c.model == model)).mappings().first()
    return ReleaseRow(**found) if found else ReleaseRow(model)


def finish(connection: Connection, end: PromotionEnd, by: str, hold: bool = False) -> bool:
    """Ends a promotion and takes its candidate off the row; False when it had ended before.

    With `hold` nothing is promoted afterwards until a person says so; the first reason stays.
    """
    promotion = find_promotion(connection, end.promotion)
    if promotion.state != "running":
        return False
    now = find_row(connection, promotion.model)
    after = vacated(now, end.promotion)
    if hold and now.held is None:
        after = replace(after, held=end.reason)
    if after != now:
        _swap(connection, now, after, by, end.reason, None)
    mark = {
        "state": end.state,
        "verdict": end.verdict,
        "outcome": end.reason,
        "ended_at": datetime.now(UTC),
    }
    connection.execute(update(promotions).where(promotions.c.id == end.promotion).values(mark))
    audit.append(connection, by, f"promotion {end.state}", {"promotion": end.promotion, "reason": end.reason})
    return True


# How a step is done


Decision = Callable[[ReleaseRow], tuple[ReleaseRow, PromotionEnd | None]]


def _act(store: Store, promotion: Promotion, by: str, reason: str, decide: Decision) -> ReleaseRow:
    """A step in the name of a promotion. An overlapping try may end it meanwhile: then it says that."""
    try:
        return _step(store, promotion.model, by, reason, decide)
    except (NotClaimed, Unlawful):
        require_running(store.promotion(promotion.id))
        raise


def _one_before(store: Store, now: ReleaseRow) -> str | None:
    """The newest champion before `now.previous` that another roll-back could go back to."""
    history = release_history
    newest = func.max(history.c.generation)
    query = (
        select(history.c.champion)
        .where(history.c.model == now.model, history.c.champion.is_not(None))
        .where(history.c.champion.not_in([now.champion, now.previous]))
        .group_by(history.c.champion)
        .order_by(newest.desc())
    )
    with store.reading() as connection:
        former = connection.scalars(query).all()
        return next((c for c in former if c and unspoilt(connection, now.model, c)), None)


def _step(store: Store, model: str, by: str, reason: str, decide: Decision) -> ReleaseRow:
    for _ in range(ATTEMPTS):
        now = row(store, model)
        after, end = decide(now)
        if after == now:
            return now
        fields = {name: value for name, value in asdict(after).items() if name not in ("model", "generation")}
        try:
            return change(store, model, now.generation, by, reason, end, **fields)
        except StaleGeneration:
            continue
    raise StaleGeneration(f"The release row of {model} changed {ATTEMPTS} times while {by} tried to.")


def _swap(
    connection: Connection, now: ReleaseRow, after: ReleaseRow, by: str, reason: str, end: PromotionEnd | None
) -> ReleaseRow:
    after = replace(after, generation=now.generation + 1)
    values = asdict(after)
    changed = {name: value for name, value in values.items() if value != getattr(now, name)}
    if now.generation == 0:
        connection.execute(insert(release_rows).values(values))
    else:
        same = (release_rows.c.model == now.model) & (release_rows.c.generation == now.generation)
        # what stays is not written: preproduction has no right to write what callers meet (see grants)
        if not connection.execute(update(release_rows).where(same).values(changed)).rowcount:
            raise StaleGeneration(f"The release row of {now.model} is past generation {now.generation}.")
    line = {"who": by, "reason": reason, "at": datetime.now(UTC)}
    connection.execute(insert(release_history).values({**values, **line}))
    if is_reversal(now, after):
        _note_roll_back(connection, now, after)
    audit.append(connection, by, "release row changed", {"model": now.model, "reason": reason, **changed})
    if end is not None:
        finish(connection, end, by)
    return after


def _note_roll_back(connection: Connection, now: ReleaseRow, after: ReleaseRow) -> None:
    connection.execute(
        insert(roll_backs).values(
            model=now.model,
            candidate=now.champion,
            generation=after.generation,
            after_statement=connection.scalar(select(func.max(statements.c.sequence))) or 0,
            after_approval=connection.scalar(select(func.max(approvals.c.sequence))) or 0,
        )
    )


def _promote_unless_ended(store: Store, promotion: Promotion, by: str) -> ReleaseRow:
    try:
        return promote(store, promotion.id, by)
    except PromotionEnded:
        return row(store, promotion.model)


def _running(store: Store, promotion_id: str) -> Promotion:
    promotion = store.promotion(promotion_id)
    require_running(promotion)
    return promotion


def _judged(connection: Connection, promotion_id: str) -> tuple[str, str, str]:
    """Result, verdict and reason of what was concluded."""
    last = last_statement(connection, promotion_id)
    if last is None:
        raise EvidenceLacking(f"Nothing was concluded about promotion {promotion_id}: there is no statement.")
    same = (analyses.c.promotion == promotion_id) & (analyses.c.digest == last.analysis)
    return last.result, last.verdict, connection.scalars(select(analyses.c.reason).where(same)).one()
