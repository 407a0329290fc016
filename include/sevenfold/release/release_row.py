"""The release row and its protocol: from one row to the next, as pure functions. A test explores them all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sevenfold.errors import SevenfoldError
from sevenfold.release.promotion import Promotion
from sevenfold.release.traffic import Traffic


class SlotBusy(SevenfoldError):
    """Another candidate of the model is being tried."""

    retry = True


class NotClaimed(SevenfoldError):
    """The promotion does not hold the model's release row."""


class NothingBefore(SevenfoldError):
    """There is no champion to go back to."""


class Unlawful(SevenfoldError):
    """A change of the row that no step makes."""


@dataclass(frozen=True)
class ReleaseRow:
    """What production serves of one model.

    `promotion` tries `candidate` with `share` (0 to 1) of the requests; it sees `mirror` (0 to 1) of them.
    `held` is the reason why nothing may be promoted until a person releases it.
    """

    model: str
    champion: str | None = None
    previous: str | None = None
    candidate: str | None = None
    promotion: str | None = None
    share: float = 0.0
    mirror: float = 0.0
    generation: int = 0
    held: str | None = None


def claimed(now: ReleaseRow, promotion: Promotion) -> ReleaseRow:
    """The promotion's candidate takes the slot; the same row when it has it already."""
    if now.promotion == promotion.id and now.candidate == promotion.candidate:
        return now
    if now.promotion is not None and now.promotion != promotion.id:
        raise SlotBusy(
            f"Candidate {now.candidate} of promotion {now.promotion} is being tried; "
            f"{promotion.id} has to wait for its end."
        )
    if promotion.candidate is None or promotion.candidate == now.champion:
        carries = promotion.candidate or "no candidate"
        raise Unlawful(f"Promotion {promotion.id} carries {carries}: there is nothing to try.")
    return replace(now, candidate=promotion.candidate, promotion=promotion.id, share=0.0, mirror=0.0)


def exposed(now: ReleaseRow, promotion: str, share: float | None, mirror: float | None) -> ReleaseRow:
    """More requests for the candidate. A share below the present one is a late duplicate: no change."""
    _require_slot(now, promotion)
    return replace(
        now,
        share=now.share if share is None else max(share, now.share),
        mirror=now.mirror if mirror is None else mirror,
    )


def vacated(now: ReleaseRow, promotion: str) -> ReleaseRow:
    """The candidate is off; what was before it was tried is left. The same row when it is off already."""
    if now.promotion != promotion:
        return now
    return replace(now, candidate=None, promotion=None, share=0.0, mirror=0.0)


def crowned(now: ReleaseRow, promotion: str) -> ReleaseRow:
    """The candidate is the champion."""
    _require_slot(now, promotion)
    return vacated(replace(now, champion=now.candidate, previous=now.champion), promotion)


def reverted(now: ReleaseRow, champion: str, before: str | None, reason: str) -> ReleaseRow:
    """Back from `champion` to the one before, on hold; the same row when `champion` is champion no more.

    `before` is whom another roll-back would go back to.
    """
    if now.champion != champion:
        return now
    if now.previous is None:
        raise NothingBefore(f"Champion {champion} of {now.model} has no one before it to go back to.")
    back = replace(now, champion=now.previous, previous=before, held=reason)
    return vacated(back, now.promotion) if now.promotion else back


def is_reversal(now: ReleaseRow, after: ReleaseRow) -> bool:
    """Whether the step takes a champion down; the one before may be the very candidate being tried."""
    return now.champion not in (None, after.champion, after.previous)


def traffic(row: ReleaseRow) -> Traffic:
    """What the gateway has to do for this row. Without a champion a tried candidate answers everything."""
    alone = row.champion is None and row.share > 0
    return Traffic(
        model=row.model,
        champion=row.champion,
        challenger=row.candidate if row.share or row.mirror else None,
        share=1.0 if alone else row.share,
        mirror=row.mirror,
        generation=row.generation,
    )


def _require_slot(now: ReleaseRow, promotion: str) -> None:
    if now.promotion != promotion:
        raise NotClaimed(
            f"Promotion {promotion} does not hold the release row of {now.model}: claim it first."
        )
