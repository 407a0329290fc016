"""A person's approval: kept with the name, asked again of the requester; a refusal ends the promotion."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowException
from tests.airflow_home import context
from tests.rail_world import World

from sevenfold.approval import approvals_of
from sevenfold.candidate import Candidate
from sevenfold_airflow.approve import ApproveOperator, evidence_so_far


@pytest.fixture
def candidate(world: World) -> Candidate:
    made = world.candidate()
    world.passes(made, "training", "testing", "staging", "preproduction")
    world.begin("production", "run-1", made)
    return made


def answer(option: str, by: str | None = "grace", reason: str = "fine") -> None:
    with DAG("toy.production", schedule=None):
        task = ApproveOperator(
            task_id="approve", subject="?", params={"reason": Param("", type="string")}, defaults="Reject"
        )
    event: dict[str, Any] = {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": by, "name": by} if by else None,
    }
    task.execute_complete(context(task), event)


def test_an_approval_is_kept_with_name_and_reason(world: World, candidate: Candidate) -> None:
    answer("Approve")
    [approval] = approvals_of(world.store, candidate.id)
    assert (approval.approver, approval.reason, approval.promotion) == (
        "grace",
        "fine",
        "toy/production/run-1",
    )


def test_the_requester_may_not_approve_and_is_asked_again(world: World, candidate: Candidate) -> None:
    with pytest.raises(AirflowException, match="requested by ada: somebody else has to approve"):
        answer("Approve", by="ada")
    assert approvals_of(world.store, candidate.id) == []
    assert world.store.promotion("toy/production/run-1").state == "running"


@pytest.mark.parametrize(
    ("by", "said"), [("grace", "rejected by grace: not now"), (None, "nobody answered in time")]
)
def test_reject_and_silence_refuse(world: World, candidate: Candidate, by: str | None, said: str) -> None:
    answer("Reject", by=by, reason="not now")
    ended = world.store.promotion("toy/production/run-1")
    assert (ended.state, ended.outcome) == ("refused", said)
    assert approvals_of(world.store, candidate.id) == []


def test_the_person_sees_what_every_gate_said(world: World, candidate: Candidate) -> None:
    shown = evidence_so_far(world.store, world.store.promotion("toy/production/run-1"))
    assert candidate.id in shown
    for environment in ("training", "testing", "staging", "preproduction"):
        assert f"| [{environment}](/sevenfold/evidence?promotion=" in shown
    assert shown.count("| Successful |") == 4
