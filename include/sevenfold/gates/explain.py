"""Why something was promoted, held or refused, in sentences for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from sevenfold.evidence.passing import lacking
from sevenfold.evidence.store import Store, find_promotion
from sevenfold.evidence.tables import approvals, revocations
from sevenfold.people.override import find_overrides
from sevenfold.release.promotion import Promotion

if TYPE_CHECKING:
    from sevenfold.gates.analysis import AnalysisRun

SAID = {
    "running": "is not decided yet",
    "promoted": "was promoted",
    "refused": "was refused",
    "held": "was held",
    "error": "ended in error",
    "superseded": "was superseded",
}


def explain(store: Store, promotion_id: str) -> str:
    """What became of a promotion and why, with the numbers: first the decision, then what it rests on.

    Raises:
        UnknownPromotion: there is no such promotion.
    """
    analyses = store.analyses(promotion_id)
    with store.reading() as connection:
        promotion = find_promotion(connection, promotion_id)
        sentences = [_decision(promotion)]
        sentences += _gate(analyses[-1], len(analyses)) if analyses else ["Its gate has judged nothing."]
        sentences += _people(connection, promotion)
        if promotion.state == "promoted" and promotion.candidate is not None:
            now = datetime.now(UTC)
            missing = lacking(connection, store.keys, promotion.candidate, promotion.environment, now)
            sentences.append(missing or "Its statement is signed, unaltered and valid.")
    return "\n".join(sentences)


def _decision(promotion: Promotion) -> str:
    who = promotion.candidate or "no candidate yet"
    when = f" on {promotion.ended_at:%Y-%m-%d %H:%M}" if promotion.ended_at else ""
    why = f": {promotion.outcome}" if promotion.outcome else "."
    return f"{promotion.id} ({who}) {SAID[promotion.state]}{when}{why}"


def _gate(analysis: AnalysisRun, runs: int) -> list[str]:
    times = f" in {runs} analysis runs" if runs > 1 else ""
    head = f"The gate (policy {analysis.policy_hash[:12]}) said {analysis.verdict}{times}: {analysis.reason}"
    lines = []
    for result in analysis.metrics:
        name = f"{result.metric} [{result.slice}]" if result.slice else result.metric
        aside = "" if result.decides else ", without a say"
        lines.append(f"  {name}: {result.verdict}{aside}: {result.reason}")
    return [head, *lines]


def _people(connection: Connection, promotion: Promotion) -> list[str]:
    said = [
        f"{given.approved_by} lifted {', '.join(given.scope)} until {given.expires_at:%Y-%m-%d %H:%M} "
        f"at the request of {given.requested_by}: {given.reason}"
        for given in find_overrides(connection, promotion.id)
    ]
    mine = select(approvals).where(approvals.c.promotion == promotion.id).order_by(approvals.c.sequence)
    said += [f"{row.approver} approved it: {row.reason}" for row in connection.execute(mine)]
    taken = select(revocations).where(revocations.c.promotion == promotion.id)
    said += [f"{row.who} revoked its evidence: {row.reason}" for row in connection.execute(taken)]
    return said
