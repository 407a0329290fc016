"""What counts as evidence: conclusions, statements, overrides, approvals, revocations."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.sevenfold.evidence_world import (
    APPROVER,
    AS_OF,
    MODEL,
    OPERATOR,
    REQUESTER,
    World,
    analysis,
    candidate,
)

from sevenfold.evidence import audit
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.evidence.revoke import NothingToRevoke, revoke
from sevenfold.evidence.statement import verified
from sevenfold.evidence.tables import statements
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import WrongAnalysis, conclude
from sevenfold.gates.explain import explain
from sevenfold.people.approval import BadApproval, SamePerson, approvals_of, record_approval
from sevenfold.people.override import BadOverride, request_override
from sevenfold.release import release

SOON = timedelta(days=7)


def soon() -> datetime:
    return datetime.now(UTC) + SOON


@pytest.mark.parametrize(
    ("verdict", "state", "passes"),
    [
        ("Successful", "promoted", True),
        ("Inconclusive", "held", False),
        ("Error", "error", False),
        ("Failed", "refused", False),
    ],
)
def test_the_verdict_decides_the_end_and_only_success_passes(
    world: World, verdict: str, state: str, passes: bool
) -> None:
    made = world.store.add_candidate(candidate("a"))
    ended = world.judged(made, "testing", verdict)
    assert (ended.state, ended.verdict) == (state, verdict)
    assert ended.outcome == f"auc is 0.7, so the gate says {verdict}."
    assert world.store.passed(made.id, "testing") is passes
    assert verify(world.store) == []


def test_every_conclusion_is_a_verification_summary_over_the_candidates_digests(world: World) -> None:
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    made = world.store.add_candidate(candidate("a"))
    for environment, verdict in (("testing", "Successful"), ("staging", "Failed")):
        world.judged(made, environment, verdict)
    with world.store.reading() as connection:
        signed = connection.execute(select(statements).order_by(statements.c.sequence)).all()
    passed, refused = (verified(row.envelope, world.store.keys.trusted) for row in signed)
    for statement in (passed, refused):
        Statement.copy_from_pb(ParseDict(statement, statement_pb2.Statement())).validate()
        assert statement["subject"][0]["digest"]["sha256"] == made.digest
        assert statement["subject"][1]["digest"]["sha256"] == made.model_digest
        known = {field.json_name for field in vsa_pb2.VerificationSummary.DESCRIPTOR.fields}
        assert set(statement["predicate"]) - known == {"sevenfold"}, "only one field is our own"
    assert passed["predicate"]["verificationResult"] == "PASSED"
    assert refused["predicate"]["verificationResult"] == "FAILED"
    assert passed["predicate"]["resourceUri"] == "sevenfold://coin/testing"
    assert passed["predicate"]["policy"]["digest"] == {"sha256": "f" * 64}


def test_concluding_twice_changes_nothing(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    first = world.judged(made, "testing")
    lines = len(world.store.audit_lines())
    assert conclude(world.store, first.id, analysis(first, "Failed")) == first
    assert len(world.store.audit_lines()) == lines
    assert len(world.store.analyses(first.id)) == 1


def test_an_analysis_of_something_else_concludes_nothing(world: World) -> None:
    made, other = (world.store.add_candidate(candidate(x)) for x in "ab")
    promotion = world.begin(made, "testing")
    foreign = world.begin(other, "testing", "other")
    with pytest.raises(WrongAnalysis, match="is of promotion coin/testing/other"):
        conclude(world.store, promotion.id, analysis(foreign, "Successful"))
    swapped = analysis(promotion, "Successful").model_copy(update={"candidate": other.id})
    with pytest.raises(WrongAnalysis, match=f"is of candidate {other.id}"):
        conclude(world.store, promotion.id, swapped)
    empty = world.begin(None, "training", "empty")
    with pytest.raises(WrongAnalysis, match="no candidate"):
        conclude(world.store, empty.id, analysis(empty, "Successful"))
    assert world.store.promotion(promotion.id).state == "running"
    assert conclude(world.store, empty.id, analysis(empty, "Error")).state == "error"


def test_a_later_failure_counts_and_a_later_error_does_not(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing", "Successful", "one")
    world.judged(made, "testing", "Error", "two")
    world.judged(made, "testing", "Inconclusive", "three")
    assert world.store.passed(made.id, "testing")
    world.judged(made, "testing", "Failed", "four")
    assert not world.store.passed(made.id, "testing")


def test_measuring_after_the_conclusion_does_not_spoil_it(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.judged(made, "testing")
    world.measure(promotion, 0.1)
    assert world.store.passed(made.id, "testing")


def test_an_override_lifts_what_it_names_and_says_who_and_why(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    refused = world.judged(made, "testing", "Failed")
    request_override(world.store, refused.id, REQUESTER, "wrong month", ["latency"], soon())
    assert not world.store.passed(made.id, "testing"), "auc stood in the way, not latency"
    request_override(world.store, refused.id, REQUESTER, "known gap", ["auc"], soon())
    lifted = world.store.promotion(refused.id)
    assert lifted.state == "promoted"
    assert lifted.verdict == "Failed", "the failed analysis stays"
    assert world.store.passed(made.id, "testing")
    assert world.store.due(MODEL, "staging") == [made]
    told = explain(world.store, refused.id)
    assert f"{REQUESTER} lifted auc until" in told
    assert f"at the request of {REQUESTER}: known gap" in told
    assert "so the gate says Failed" in told
    assert verify(world.store) == []


def test_an_override_given_before_the_gate_counts_when_it_speaks(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    request_override(world.store, promotion.id, REQUESTER, "known gap", ["*"], soon())
    world.measure(promotion)
    assert conclude(world.store, promotion.id, analysis(promotion, "Inconclusive")).state == "promoted"
    assert world.store.passed(made.id, "testing")


def test_an_override_has_to_cover_everything_that_stands_in_the_way(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    conclude(world.store, promotion.id, analysis(promotion, "Failed", ("auc", "latency")))
    request_override(world.store, promotion.id, REQUESTER, "known gap", ["auc"], soon())
    assert world.store.promotion(promotion.id).state == "refused"
    request_override(world.store, promotion.id, REQUESTER, "both known", ["auc", "latency"], soon())
    assert world.store.promotion(promotion.id).state == "promoted"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reason": " "}, "needs a reason"),
        ({"by": ""}, "needs a reason and a person's name"),
        ({"scope": []}, "needs a scope"),
        ({"expires_at": datetime.now(UTC) - SOON}, "needs an expiry within 90 days"),
        ({"expires_at": datetime.now(UTC) + timedelta(days=400)}, "needs an expiry within 90 days"),
    ],
)
def test_a_careless_override_is_refused(world: World, wrong: dict[str, object], said: str) -> None:
    refused = world.judged(world.store.add_candidate(candidate("a")), "testing", "Failed")
    given = {
        "by": REQUESTER,
        "reason": "known gap",
        "scope": ["auc"],
        "expires_at": soon(),
    }
    with pytest.raises(BadOverride, match=said):
        request_override(world.store, refused.id, **{**given, **wrong})  # type: ignore[arg-type]


def test_nobody_approves_what_he_asked_for(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    refused = world.judged(made, "preproduction", "Failed")
    with pytest.raises(SamePerson, match="somebody else has to approve"):
        record_approval(world.store, refused.id, REQUESTER, "trust me")


def begun_by(world: World, who: str, environment: str, origin: str | None, made: str) -> str:
    """A promotion that `who` began with `origin`, and that carries `made`."""
    about = (MODEL, environment, f"{environment}-by-{who}", origin, AS_OF, "a test", {}, who)
    promotion = world.store.begin_promotion(*about)
    world.store.set_promotion_candidate(promotion.id, made)
    return promotion.id


def test_whoever_asked_for_the_idea_does_not_approve_what_came_of_it(world: World) -> None:
    idea, made = (world.store.add_candidate(candidate(letter)).id for letter in "ab")
    begun_by(world, "xenia", "development", None, idea)
    begun_by(world, "sevenfold", "training", idea, made)
    promotion = begun_by(world, "sevenfold", "production", made, made)
    with pytest.raises(SamePerson, match="requested by xenia: somebody else has to approve"):
        record_approval(world.store, promotion, "Xenia ", "my own idea")
    assert approvals_of(world.store, made) == []
    assert record_approval(world.store, promotion, "yuri", "looks good").approver == "yuri"


def test_an_approval_of_another_run_is_no_approval_of_this_one(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    for environment in ("training", "testing", "staging", "preproduction"):
        world.judged(made, environment)
    first = world.begin(made, "production", "first")
    record_approval(world.store, first.id, APPROVER, "looks good")
    release.claim(world.store, first.id, OPERATOR)
    release.withdraw(world.store, first.id, OPERATOR, "Inconclusive", "too few answers")
    second = world.begin(made, "production", "second")
    with pytest.raises(EvidenceLacking, match=f"No person has approved .* in promotion {second.id}"):
        release.claim(world.store, second.id, OPERATOR)
    record_approval(world.store, second.id, APPROVER, "again")
    assert release.claim(world.store, second.id, OPERATOR).promotion == second.id


def test_an_approval_is_kept_once_with_its_reason(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.judged(made, "preproduction")
    first = record_approval(world.store, promotion.id, APPROVER, "looks good")
    assert record_approval(world.store, promotion.id, APPROVER, "again") == first
    assert approvals_of(world.store, made.id) == [first]
    with pytest.raises(BadApproval, match="names no person"):
        record_approval(world.store, promotion.id, " ", "")
    with pytest.raises(BadApproval, match="none that a person approves"):
        record_approval(world.store, world.begin(made, "testing").id, APPROVER, "")


def test_a_revocation_names_what_relied_on_it_and_stops_what_is_tried_on_it(world: World) -> None:
    made = world.proven("a")
    rolling = world.rolling(made)
    assert world.row.share == 0.1
    taken = revoke(world.store, "coin/testing/a-run", OPERATOR, "labels were wrong")
    assert taken.relied == ("coin/staging/a-run", "coin/preproduction/a-run", rolling.id)
    assert not taken.serves
    assert not world.store.passed(made.id, "testing")
    assert (world.row.candidate, world.row.share) == (None, 0.0)
    stopped = world.store.promotion(rolling.id)
    assert stopped.state == "refused"
    assert "labels were wrong" in (stopped.outcome or "")
    assert revoke(world.store, "coin/testing/a-run", OPERATOR, "again").reason == "labels were wrong"
    assert "olga revoked its evidence: labels were wrong" in explain(world.store, "coin/testing/a-run")


def test_a_champion_serves_on_when_its_evidence_is_revoked_and_is_named(world: World) -> None:
    made = world.crowned("a")
    assert revoke(world.store, "coin/testing/a-run", OPERATOR, "labels were wrong").serves
    assert world.row.champion == made.id


def test_there_is_nothing_to_revoke_before_a_conclusion(world: World) -> None:
    promotion = world.begin(world.store.add_candidate(candidate("a")), "testing")
    with pytest.raises(NothingToRevoke, match="no statement that could be revoked"):
        revoke(world.store, promotion.id, OPERATOR, "why not")


def test_reports_are_part_of_the_evidence(world: World, tmp_path: Path) -> None:
    artifacts = open_artifacts(f"file://{tmp_path}/artifacts", tmp_path / "cache")
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    path, digest = artifacts.put_report(promotion, "drift", "drift.html", "<p>calm</p>")
    world.store.add_report(promotion.id, "drift", "Drift", path, digest)
    conclude(world.store, promotion.id, analysis(promotion, "Successful"))
    assert verify(world.store, promotion.id, artifacts) == []
    about = f"The report {path} of promotion {promotion.id}"
    (tmp_path / "artifacts" / path).write_text("<p>storm</p>")
    assert verify(world.store, None, artifacts) == [f"{about} was altered."]
    (tmp_path / "artifacts" / path).unlink()
    assert verify(world.store, None, artifacts) == [f"{about} is gone."]


def test_explaining_says_the_decision_first_and_the_numbers_after_it(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    running = world.begin(made, "staging")
    assert explain(world.store, running.id).splitlines() == [
        f"coin/staging/run ({made.id}) is not decided yet.",
        "Its gate has judged nothing.",
    ]
    promoted = world.judged(made, "testing")
    first, gate, metric, state = explain(world.store, promoted.id).splitlines()
    assert first.startswith(f"coin/testing/run ({made.id}) was promoted on 20")
    assert gate.startswith("The gate (policy ffffffffffff) said Successful: auc is 0.7")
    assert metric == "  auc: Successful: auc is 0.7, which is successful."
    assert state == "Its statement is signed, unaltered and valid."


def test_the_audit_log_says_who_did_what(world: World) -> None:
    world.crowned("a")
    lines = world.store.audit_lines()
    assert audit.problems(lines) == []
    done = [(line.who, line.what) for line in lines]
    assert (APPROVER, "approved") in done
    assert (OPERATOR, "release row changed") in done
    assert done[-1] == (OPERATOR, "promotion promoted")


@pytest.mark.parametrize("harm", ["who", "detail", "hash", "gone"])
def test_a_line_of_the_audit_log_that_was_changed_or_taken_out_shows(world: World, harm: str) -> None:
    world.crowned("a")
    lines = world.store.audit_lines()
    if harm == "gone":
        del lines[4]
    else:
        other = {"who": "mallory", "detail": {"share": 1}, "hash": "0" * 64}
        lines[4] = type(lines[4])(**{**vars(lines[4]), harm: other[harm]})
    (problem,) = audit.problems(lines)
    assert "line 5" in problem.lower()


def test_a_rotated_key_leaves_old_evidence_valid_and_signs_the_new(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    old = world.store.keys.signer.public_key.keyid
    assert world.store.keys.rotate() != old
    world.judged(made, "staging")
    assert world.store.passed(made.id, "testing")
    assert world.store.passed(made.id, "staging")
    with world.store.reading() as connection:
        envelopes = connection.scalars(select(statements.c.envelope).order_by(statements.c.sequence)).all()
    assert json.loads(envelopes[0])["signatures"][0]["keyid"] == old
    assert json.loads(envelopes[1])["signatures"][0]["keyid"] != old


def test_settling_needs_a_conclusion(world: World) -> None:
    rolling = world.rolling(world.proven("a"))
    with pytest.raises(release.EvidenceLacking, match="Nothing was concluded"):
        release.settle(world.store, rolling.id, OPERATOR)
