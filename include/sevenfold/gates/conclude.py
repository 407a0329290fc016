"""The conclusion of a promotion: analysis, signed statement, audit line and end, all in one transaction.

A process killed at any point leaves all of it or nothing, and the next try writes it. A candidate that did
not pass production is off callers with the same transaction, and one that was proven bad leaves a hold:
neither waits for a task that may be killed or marked as done. One that passed ends with the change of the
release row that makes it champion (see release.promote).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.passing import last_statement, measured
from sevenfold.evidence.statement import SIGNED, Evidence, build, sign
from sevenfold.evidence.store import Store, add_analysis, find_candidate, find_promotion, find_reports
from sevenfold.evidence.tables import analyses, promotions, statements
from sevenfold.people import gate_change
from sevenfold.people.override import Override, find_override
from sevenfold.release.promotion import END_OF, Promotion, PromotionEnd
from sevenfold.release.release import finish

if TYPE_CHECKING:
    from securesystemslib.signer import Signer  # type: ignore[attr-defined]

    from sevenfold.evidence.signing import Keys
    from sevenfold.gates.analysis import AnalysisRun


class WrongAnalysis(SevenfoldError):
    """An analysis of another promotion, another candidate, or by a gate that may not judge it."""


def conclude(store: Store, promotion_id: str, analysis: AnalysisRun, key: Signer | None = None) -> Promotion:
    """Concludes a promotion by the last analysis of its gate, for passes and for refusals alike.

    Successful promotes, or a valid override that covers what stood in the way; Failed refuses, Inconclusive
    holds, Error ends as error. What was concluded once stays. `key` signs; the store's own by default.

    Raises:
        WrongAnalysis: the analysis is about something else, passes a promotion without a candidate, or passes
            by a gate that changed after the candidate was made.
    """
    with store.writing() as connection:
        promotion = find_promotion(connection, promotion_id)
        if promotion.state != "running" or last_statement(connection, promotion_id) is not None:
            return promotion
        _require_same(promotion, analysis)
        _require_accepted(connection, store, promotion, analysis)
        now = datetime.now(UTC)
        verdict = str(analysis.verdict)
        digest = add_analysis(connection, promotion, analysis)
        lifted = None
        if verdict != "Successful":
            lifted = find_override(connection, store.people, promotion, analysis, now)
        if promotion.candidate is not None:
            _state(connection, key or store.keys.signer, promotion, analysis, digest, lifted, now)
        state = "promoted" if lifted else END_OF[verdict]
        live = promotion.environment == "production"
        if not live or state != "promoted":
            end = PromotionEnd(promotion_id, state, verdict, _outcome(analysis, lifted))
            finish(connection, end, "gate", hold=live and verdict == "Failed")
        return find_promotion(connection, promotion_id)


def conclude_again(connection: Connection, keys: Keys, promotion_id: str, now: datetime) -> None:
    """After a new override: states anew what it lifts, and promotes what had ended without."""
    from sevenfold.gates.analysis import AnalysisRun

    last = last_statement(connection, promotion_id)
    if last is None or last.result == "PASSED":
        return
    same = (analyses.c.promotion == promotion_id) & (analyses.c.digest == last.analysis)
    analysis = AnalysisRun.model_validate_json(connection.scalars(select(analyses.c.body).where(same)).one())
    promotion = find_promotion(connection, promotion_id)
    lifted = find_override(connection, keys.people, promotion, analysis, now)
    if lifted is None:
        return
    _state(connection, keys.signer, promotion, analysis, last.analysis, lifted, now)
    if promotion.state in ("refused", "held", "error"):
        change = update(promotions).where(promotions.c.id == promotion_id)
        connection.execute(change.values(state="promoted", outcome=_outcome(analysis, lifted)))
        detail = {"promotion": promotion_id, "reason": _outcome(analysis, lifted)}
        audit.append(connection, lifted.approved_by, "promotion promoted", detail)


def _state(
    connection: Connection,
    signer: Signer,
    promotion: Promotion,
    analysis: AnalysisRun,
    digest: str,
    lifted: Override | None,
    now: datetime,
) -> None:
    """Signs the statement and keeps it."""
    candidate = find_candidate(connection, promotion.candidate or "")
    readings, count, last = measured(connection, promotion.id)
    result = "PASSED" if lifted or str(analysis.verdict) == "Successful" else "FAILED"
    evidence = Evidence(
        promotion=promotion.id,
        environment=promotion.environment,
        result=result,
        verdict=str(analysis.verdict),
        reason=analysis.reason,
        policy=analysis.policy_hash,
        analysis=digest,
        measurements=readings,
        count=count,
        last=last,
        reports={report.path: report.sha256 for report in find_reports(connection, promotion.id)},
        override=lifted.summary() if lifted else None,
        audit=audit.head(connection),
    )
    connection.execute(
        insert(statements).values(
            promotion=promotion.id,
            candidate=candidate.id,
            environment=promotion.environment,
            result=result,
            verdict=evidence.verdict,
            analysis=digest,
            override=lifted.sequence if lifted else None,
            envelope=sign(build(candidate, evidence, now), signer),
            issued_at=now,
        )
    )
    detail = {"promotion": promotion.id, "candidate": candidate.id, "result": result, "analysis": digest}
    audit.append(connection, "gate", SIGNED, detail)


def _require_same(promotion: Promotion, analysis: AnalysisRun) -> None:
    if analysis.promotion != promotion.id:
        raise WrongAnalysis(f"The analysis is of promotion {analysis.promotion}, not of {promotion.id}.")
    if promotion.candidate is None and str(analysis.verdict) == "Successful":
        raise WrongAnalysis(f"Promotion {promotion.id} carries no candidate: nothing could pass.")
    if promotion.candidate is not None and analysis.candidate != promotion.candidate:
        raise WrongAnalysis(
            f"The analysis is of candidate {analysis.candidate}, but promotion {promotion.id} carries "
            f"{promotion.candidate}."
        )


def _require_accepted(
    connection: Connection, store: Store, promotion: Promotion, analysis: AnalysisRun
) -> None:
    """What a moved bar lets pass is not signed, whoever judged."""
    if str(analysis.verdict) != "Successful" or promotion.candidate is None:
        return
    candidate = find_candidate(connection, promotion.candidate)
    accepted = gate_change.accepted(connection, store.people, candidate, promotion.environment)
    if analysis.policy_hash not in accepted:
        raise WrongAnalysis(
            f"Promotion {promotion.id} was judged by gate {analysis.policy_hash[:12]}, which is not the one "
            f"that {candidate.id} was made under, and nobody let the change through."
        )


def _outcome(analysis: AnalysisRun, lifted: Override | None) -> str:
    if lifted is None:
        return analysis.reason
    until = f"{lifted.expires_at:%Y-%m-%d %H:%M}"
    return (
        f"Override by {lifted.approved_by} until {until}: {lifted.reason} (the gate said: {analysis.reason})"
    )
