"""A person's approval: kept with the name, asked again of the requester; a refusal ends the promotion."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowException
from tests.airflow_home import context
from tests.rail_world import AS_OF, World

from sevenfold.candidates.candidate import Candidate
from sevenfold.environments import before
from sevenfold.gates.analyse import analyse
from sevenfold.gates.conclude import conclude
from sevenfold.people import approval as approvals
from sevenfold.people.approval import approvals_of
from sevenfold.settings import Settings
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


def test_the_person_sees_who_asked_for_what_an_asset_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.candidate()
    world.passes(made, "training", "testing", "staging", "preproduction")
    woken = world.store.begin_promotion(
        "toy", "production", "woken", made.id, AS_OF, "test", {}, approvals.NOBODY
    )
    assert "Asked for by ada. Somebody else than ada has to approve." in evidence_so_far(world.store, woken)
    monkeypatch.setattr("sevenfold_airflow.approve.settings", lambda: Settings(four_eyes=False))
    assert "Asked for by ada.\n" in evidence_so_far(world.store, woken)


def test_the_person_sees_when_nobody_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "NOBODY", "ada")
    made = world.candidate()
    world.passes(made, "training", "testing", "staging", "preproduction")
    alone = world.begin("production", "alone", made)
    assert "No person asked for it: an alert or the schedule did." in evidence_so_far(world.store, alone)


def test_the_person_sees_that_a_bar_was_moved_before_the_candidate_was_made(world: World) -> None:
    """Loosened, committed, trained anew: nobody has to let it through, so whoever approves has to see it."""
    from sevenfold.people.approval import record_approval
    from sevenfold.release import release

    champion = world.candidate("champion")
    world.passes(champion, *before("production"))
    first = world.begin("production", "first", champion)
    record_approval(world.store, first.id, "grace", "fine | really")
    release.claim(world.store, first.id, "ada")
    world.measure(first)
    conclude(world.store, first.id, analyse(world.store, first.id, datetime.now(UTC)))
    release.settle(world.store, first.id, "ada")
    path = world.models / "toy" / "gates" / "testing.yaml"
    path.write_text(path.read_text().replace("limit: 0.5", "limit: 5.0"))
    later = world.begin("production", "later", world.candidate("later"))
    shown = evidence_so_far(world.store, later)
    assert (
        "Gates that changed since the champion was made: testing: loss of train: limit 0.5 is now 5.0."
        in shown
    )
    again = evidence_so_far(world.store, world.begin("production", "again", champion))
    assert "Gates that changed" not in again
    assert "grace approved it before, in toy/production/first: fine / really" in again
