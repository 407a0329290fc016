"""Replay: the stored measurements of a promotion, judged again under another policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, func, select

from sevenfold.candidates.candidate import Candidate
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store, find_candidate, find_measurements, find_promotion
from sevenfold.evidence.tables import analyses, release_history, test_set_uses

if TYPE_CHECKING:
    from sevenfold.gates.analysis import AnalysisRun
    from sevenfold.gates.measurement import Measurement
    from sevenfold.gates.policy import Policy


class NothingToReplay(SevenfoldError):
    """The promotion was never judged, or carries no candidate."""


@dataclass(frozen=True)
class Replay:
    """What was said, what would be said, and one sentence for each verdict that would change."""

    promotion: str
    before: AnalysisRun
    after: AnalysisRun
    changes: tuple[str, ...]


def replay(store: Store, promotion_id: str, policy: Policy) -> Replay:
    """Judges a promotion again, as of the moment of its last analysis and against the champion it had then.

    Nothing is written: the evidence stays what it was.

    Raises:
        NothingToReplay: there is no analysis that could come out differently.
    """
    from sevenfold.gates.analysis import AnalysisRun, judge

    with store.reading() as connection:
        promotion = find_promotion(connection, promotion_id)
        last = _last_analysis(connection, promotion_id)
        if last is None or promotion.candidate is None:
            raise NothingToReplay(f"Promotion {promotion_id} was never judged: there is nothing to replay.")
        readings = find_measurements(connection, promotion_id)
        after = judge(
            policy,
            readings,
            find_candidate(connection, promotion.candidate),
            promotion,
            last.judged_at,
            champion=_champion_at(connection, promotion.model, last.judged_at),
            accepted={policy.hash: ""},
            anchor=_anchor(connection, readings),
            uses=_uses(connection, promotion_id),
            data_now=last.clock or last.judged_at,
        )
    before = AnalysisRun.model_validate_json(last.body)
    return Replay(promotion_id, before, after, tuple(_changes(before, after)))


def _changes(before: AnalysisRun, after: AnalysisRun) -> list[str]:
    said = {(result.metric, result.slice): result.verdict for result in before.metrics}
    changed = []
    if before.verdict != after.verdict:
        changed.append(f"The verdict would be {after.verdict} instead of {before.verdict}: {after.reason}")
    for result in after.metrics:
        old = said.pop((result.metric, result.slice), None)
        if old != result.verdict:
            name = f"{result.metric} [{result.slice}]" if result.slice else result.metric
            was = f"instead of {old}" if old else "and was not judged"
            changed.append(f"{name} would be {result.verdict} {was}: {result.reason}")
    for metric, slice_ in said:
        changed.append(f"{metric}{f' [{slice_}]' if slice_ else ''} would not be judged any more.")
    return changed


def _last_analysis(connection: Connection, promotion: str) -> Row[Any] | None:
    query = select(analyses).where(analyses.c.promotion == promotion)
    return connection.execute(query.order_by(analyses.c.sequence.desc()).limit(1)).first()


def _champion_at(connection: Connection, model: str, moment: datetime) -> Candidate | None:
    history = release_history
    query = (
        select(history.c.champion)
        .where(history.c.model == model, history.c.at <= moment)
        .order_by(history.c.generation.desc())
        .limit(1)
    )
    champion = connection.scalar(query)
    return find_candidate(connection, champion) if champion is not None else None


def _anchor(connection: Connection, readings: list[Measurement]) -> Candidate | None:
    anchors = [r.baseline_candidate for r in readings if r.baseline == "anchor" and r.baseline_candidate]
    return find_candidate(connection, anchors[-1]) if anchors else None


def _uses(connection: Connection, promotion: str) -> int | None:
    """How often the test set had been used when this promotion used it: the most of its sets, if counted."""
    mine = test_set_uses.alias()
    count = (
        select(func.count())
        .where(test_set_uses.c.model == mine.c.model, test_set_uses.c.environment == mine.c.environment)
        .where(test_set_uses.c.digest == mine.c.digest, test_set_uses.c.sequence <= mine.c.sequence)
        .correlate(mine)
        .scalar_subquery()
    )
    uses: int | None = connection.scalar(select(func.max(count)).where(mine.c.promotion == promotion))
    return uses
