"""A gate edited after the candidate was made: refused everywhere, until two people let it through."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from tests.sevenfold.evidence_world import (
    APPROVER,
    MODEL,
    OPERATOR,
    REQUESTER,
    World,
    analysis,
    candidate,
    signed,
)

from sevenfold.candidates.candidate import Candidate, hash_of_gates
from sevenfold.environments import before
from sevenfold.evidence.passing import EvidenceLacking, lacking, measured
from sevenfold.evidence.statement import Evidence, build, sign, verified
from sevenfold.evidence.tables import statements
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import WrongAnalysis, conclude
from sevenfold.gates.policy import Metric, Policy
from sevenfold.people import gate_change
from sevenfold.people.approval import record_approval
from sevenfold.people.gate_change import NoGateChange, accepted, differences, request_change, terms_of
from sevenfold.people.request import Request, SamePerson, wording
from sevenfold.release import release
from sevenfold.serving.admission import NotAdmitted, require_admission


def gate(limit: float, environment: str = "testing", **more: Any) -> Policy:
    """Errors at most `limit`."""
    asked = {
        "metric": "errors",
        "activity": "canary",
        "meaning": "Few answers may be wrong.",
        "unit": "share",
        "direction": "lower",
        "rule": "at_most",
        "limit": limit,
    }
    return Policy(
        environment=environment,  # type: ignore[arg-type]
        model=MODEL,
        description="A gate of the tests.",
        metrics=(Metric.model_validate(asked | more),),
    )


STRICT, LOOSE, LOOSER = gate(0.01), gate(0.05), gate(0.5)


@pytest.fixture
def made(world: World) -> Candidate:
    """A candidate made under the strict gate, and two people who are known."""
    world.know(REQUESTER, APPROVER)
    return world.store.add_candidate(candidate("a", testing=STRICT.hash), [STRICT])


def asks(world: World, made: Candidate, gate: Policy) -> Request:
    content = wording("gate", f"{MODEL}/testing", terms_of(made, gate), "holidays")
    return request_change(world.store, made, gate, "holidays", REQUESTER, signed(REQUESTER, content))


def judged_by(world: World, made: Candidate, gate: Policy, run: str) -> str:
    """The promotion's state after this gate let it pass."""
    promotion = world.begin(made, "testing", run)
    world.measure(promotion)
    passed = analysis(promotion, "Successful").model_copy(update={"policy_hash": gate.hash})
    return conclude(world.store, promotion.id, passed).state


def may_judge(world: World, made: Candidate) -> set[str]:
    with world.store.reading() as connection:
        return set(accepted(connection, world.store.people, made, "testing"))


def test_what_a_moved_bar_lets_pass_is_not_signed(world: World, made: Candidate) -> None:
    assert judged_by(world, made, STRICT, "strict") == "promoted"
    with pytest.raises(WrongAnalysis, match="nobody let the change through"):
        judged_by(world, made, LOOSE, "loose")
    assert world.store.promotion(f"{MODEL}/testing/loose").state == "running"


def test_a_change_that_two_people_let_through_counts_and_shows(world: World, made: Candidate) -> None:
    asked = asks(world, made, LOOSE)
    with pytest.raises(WrongAnalysis):
        judged_by(world, made, LOOSE, "asked")
    with pytest.raises(SamePerson):
        world.grants(asked, REQUESTER)
    world.grants(asked)
    assert judged_by(world, made, LOOSE, "granted") == "promoted"
    assert world.store.passed(made.id, "testing")
    assert verify(world.store) == []
    with world.store.reading() as connection:
        envelope = connection.scalar(statements.select().with_only_columns(statements.c.envelope))
        note = accepted(connection, world.store.people, made, "testing")[LOOSE.hash]
    policy = verified(envelope or "", world.store.keys.trusted)["predicate"]["policy"]
    assert policy["digest"] == {"sha256": LOOSE.hash}
    assert f"as {REQUESTER} asked (holidays) and {APPROVER} granted (agreed)" in note


def test_changes_add_up_and_lead_forwards_only(world: World, made: Candidate) -> None:
    world.grants(asks(world, made, LOOSE))
    under_loose = world.store.add_candidate(candidate("b", testing=LOOSE.hash), [LOOSE])
    assert may_judge(world, under_loose) == {LOOSE.hash}, (
        "the gate that was given up is not reached from here"
    )
    world.grants(asks(world, under_loose, LOOSER))
    assert may_judge(world, made) == {STRICT.hash, LOOSE.hash, LOOSER.hash}
    assert may_judge(world, under_loose) == {LOOSE.hash, LOOSER.hash}
    elsewhere = world.store.add_candidate(candidate("c", "dice", STRICT.hash))
    assert may_judge(world, elsewhere) == {STRICT.hash}, "another model's gate"


def test_a_statement_under_a_change_that_loses_its_signatures_counts_no_more(
    world: World, made: Candidate
) -> None:
    """Whoever takes a person's key away takes back what rests on it: the server loads nothing on it."""
    world.grants(asks(world, made, LOOSE))
    judged_by(world, made, LOOSE, "granted")
    (world.store.people.folder / f"{APPROVER}.json").unlink()
    with world.store.reading() as connection:
        why = lacking(connection, world.store.keys, made.id, "testing", None)
    assert why is not None
    assert "the gate was changed after the candidate was made and nobody let it through" in why
    with pytest.raises(NotAdmitted, match=r"no valid passing statement of .*testing"):
        require_admission(world.store, made.id, "staging")
    assert any("the gate was changed" in problem for problem in verify(world.store))


def test_production_refuses_a_candidate_tested_under_a_moved_bar(world: World) -> None:
    """The case itself: trained, then somebody loosens the gate, and signs with the store's own key."""
    world.know(REQUESTER, APPROVER)
    made = world.store.add_candidate(candidate("a", testing=STRICT.hash), [STRICT])
    for environment in before("production"):
        if environment != "testing":
            promotion = world.judged(made, environment, run="run")
    record_approval(world.store, promotion.id, APPROVER, "looks good")
    tested = world.begin(made, "testing")
    world.measure(tested)
    loose = analysis(tested, "Successful").model_copy(update={"policy_hash": LOOSE.hash})
    world.store.record_analysis(loose)
    digest = sha256(loose.model_dump_json().encode()).hexdigest()
    with world.store.writing() as connection:
        readings, count, last = measured(connection, tested.id)
        evidence = Evidence(
            tested.id, "testing", "PASSED", "Successful", "fine", LOOSE.hash, digest, readings, count, last,
            {}, None, (0, "0" * 64),
        )  # fmt: skip
        connection.execute(
            statements.insert().values(
                promotion=tested.id, candidate=made.id, environment="testing", result="PASSED",
                verdict="Successful", analysis=digest, issued_at=datetime.now(UTC),
                envelope=sign(build(made, evidence, datetime.now(UTC)), world.store.keys.signer),
            )
        )  # fmt: skip
    production = world.begin(made, "production")
    with pytest.raises(EvidenceLacking, match="the gate was changed after the candidate was made"):
        release.claim(world.store, production.id, OPERATOR)
    assert world.row.candidate is None


def test_nothing_is_asked_for_where_nothing_changed(world: World, made: Candidate) -> None:
    with pytest.raises(NoGateChange, match="is the one that"):
        asks(world, made, STRICT)
    with pytest.raises(NoGateChange, match="make it anew"):
        terms_of(made.model_copy(update={"gates": {}}), LOOSE)


def test_a_candidate_that_does_not_say_its_gates_passes_none(world: World) -> None:
    silent = candidate("a").model_copy(update={"gates": {}})
    assert may_judge(world, silent) == set()


def test_the_gates_of_a_candidate_cannot_be_exchanged() -> None:
    made = candidate("a")
    with pytest.raises(ValueError, match="not the hash of the gates"):
        Candidate.model_validate(made.model_dump() | {"gates": made.gates | {"testing": LOOSE.hash}})
    assert made.policy_hash == hash_of_gates(made.gates)


def test_the_text_of_a_gate_is_kept_and_checked(world: World, made: Candidate) -> None:
    with world.store.reading() as connection:
        assert gate_change.kept(connection, STRICT.hash) == STRICT
        assert gate_change.kept(connection, LOOSE.hash) is None
    assert gate_change.refusal(made, LOOSE, STRICT) == (
        f"The gate of testing is not the one that {made.id} was made under (errors of canary: limit 0.01 is "
        "now 0.05), and nobody let the change through: nothing is promoted until two people do, or a new "
        "candidate is made."
    )


def test_differences_are_told_one_by_one() -> None:
    other = STRICT.metrics[0].model_copy(update={"metric": "slow"})
    two = STRICT.model_copy(update={"metrics": (*STRICT.metrics, other)})
    assert differences(STRICT, two) == ["slow of canary is asked now"]
    assert differences(two, STRICT) == ["slow of canary is not asked any more"]
    careful = gate(0.01, critical=False, min_sample=5)
    assert differences(STRICT, careful) == [
        "errors of canary: min_sample 1 is now 5",
        "errors of canary: critical true is now false",
    ]
    assert differences(STRICT, gate(0.01, meaning="The same in other words.")) == ["its words only"]
    step = {"share": 0.5, "bake": "4s", "requests": 1, "deadline": "8s"}
    live = gate(0.01, "production")
    faster = Policy.model_validate(
        {**live.model_dump(exclude={"steps", "metrics"}), "metrics": live.metrics, "steps": [step]}
    )
    (change,) = differences(live, faster)
    assert change.startswith("production: steps [] is now [")


def test_what_users_would_feel_is_not_done_by_a_moved_bar(world: World, made: Candidate) -> None:
    assert gate_change.require_accepted(world.store, made, STRICT) is STRICT
    with pytest.raises(gate_change.MovedBar, match=r"limit 0\.01 is now 0\.05"):
        gate_change.require_accepted(world.store, made, LOOSE)
    world.grants(asks(world, made, LOOSE))
    assert gate_change.require_accepted(world.store, made, LOOSE) is LOOSE
