"""A person's approval before users meet a candidate, with the evidence in front of the person."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowException

from sevenfold.candidates.candidate import Candidate
from sevenfold.environments import before
from sevenfold.evidence.store import Store, open_store
from sevenfold.people import gate_change
from sevenfold.people.approval import SamePerson, approvals_of, record_approval, requesters
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings
from sevenfold_airflow.failures import as_airflow_sees_it
from sevenfold_airflow.links import EvidenceLink, evidence_address, promotion_of


class ApproveOperator(ApprovalOperator):
    """Asks a person, who is not the requester, and keeps the answer in the evidence store.

    Approve is recorded with name and reason, and whoever changes the release row asks for that record: a task
    marked successful is no approval. Reject ends the promotion as refused and skips the rest.
    """

    operator_extra_links = (EvidenceLink(),)

    def execute(self, context: Any) -> Any:
        """Shows the evidence and waits; no process, slot or trigger is used while nobody answers."""
        run = context["dag_run"]
        with as_airflow_sees_it():
            store = open_store()
            self.body = evidence_so_far(store, store.promotion(promotion_of(run.dag_id, run.run_id)))
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keeps the answer, then lets the run go on or skips the rest of it."""
        answer = super().execute_complete(context, event)
        run = context["dag_run"]
        identity = promotion_of(run.dag_id, run.run_id)
        person = (answer["responded_by_user"] or {}).get("name", "")
        reason = (answer["params_input"] or {}).get("reason") or "no reason given"
        with as_airflow_sees_it():
            store = open_store()
            if self.APPROVE in answer["chosen_options"]:
                self._approve(store, identity, person, reason)
                self.log.info("approved by %s: %s", person, reason)
            else:
                said = f"rejected by {person}: {reason}" if person else "nobody answered in time"
                store.end_promotion(identity, "refused", "Failed", said)
                self.log.info(said)
        return answer

    def _approve(self, store: Store, identity: str, person: str, reason: str) -> None:
        try:
            record_approval(store, identity, person, reason)
        except SamePerson as same:
            raise AirflowException(f"{same} It is asked again.") from same


def evidence_so_far(store: Store, promotion: Promotion) -> str:
    """Markdown: what the candidate is, and what every earlier gate said about it."""
    if promotion.candidate is None:
        return "There is no candidate."
    candidate = store.candidate(promotion.candidate)
    lines = [
        f"Candidate `{candidate.id}`, {candidate.reason or 'no reason given'}.",
        f"Trained as of {candidate.as_of:%Y-%m-%d}. {_who_asked(requesters(store, promotion))}",
        *_gates_moved(store, candidate),
        *(
            f"{one.approver} approved it before, in {one.promotion}: {_cell(one.reason)}"
            for one in approvals_of(store, candidate.id)
        ),
        "",
        "| environment | verdict | why |",
        "|---|---|---|",
    ]
    moves = store.promotions(promotion.model, candidate=candidate.id)
    for environment in before(promotion.environment):
        passed = [move for move in moves if move.environment == environment and move.state == "promoted"]
        if passed:
            last = passed[-1]
            address, why = evidence_address(last.id), _cell(last.outcome or "")
            lines.append(f"| [{environment}]({address}) | {last.verdict} | {why} |")
        else:
            lines.append(f"| {environment} | nothing | it has not been promoted there |")
    return "\n".join(lines)


def _gates_moved(store: Store, candidate: Candidate) -> list[str]:
    """What of the gates changed since the champion was made: it was made under another bar."""
    champion = release.row(store, candidate.model).champion
    if champion is None:
        return []
    with store.reading() as connection:
        moved = gate_change.moved(connection, store.candidate(champion), candidate)
    return [f"Gates that changed since the champion was made: {_cell('; '.join(moved))}."] if moved else []


def _who_asked(people: list[str]) -> str:
    if not people:
        return "No person asked for it: an alert or the schedule did."
    alone = f" Somebody else than {' and '.join(people)} has to approve." if settings().four_eyes else ""
    return f"Asked for by {' and '.join(people)}.{alone}"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
