"""Evidence that must not count: each case would let a candidate pass if anybody trusted what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.sevenfold.evidence_world import APPROVER, OPERATOR, REQUESTER, World, analysis, candidate, tamper

from sevenfold.candidates.candidate import Candidate
from sevenfold.evidence.passing import EvidenceLacking, lacking
from sevenfold.evidence.revoke import revoke
from sevenfold.evidence.store import BudgetSpent, Store, open_store
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.people.override import grant_override, request_override
from sevenfold.release import release
from sevenfold.settings import Settings


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(open_store(f"sqlite:///{tmp_path}/evidence.db", tmp_path / "keys"))


def why_not(world: World, made: Candidate, environment: str, now: datetime | None = None) -> str:
    """The reason, printed as a person would see it."""
    with world.store.reading() as connection:
        reason = lacking(connection, world.store.keys, made.id, environment, now or datetime.now(UTC))
    print(reason)
    assert reason is not None, "it passes"
    return reason


def test_no_evidence_at_all(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    assert "there is no signed statement" in why_not(world, made, "testing")


def test_a_promotion_marked_as_promoted_without_a_gate(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    world.store.end_promotion(promotion.id, "promoted", "Successful", "a person marked the task as success")
    assert "there is no signed statement" in why_not(world, made, "testing")


def test_a_gate_that_was_stopped_before_its_first_measurement(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.begin(made, "testing")
    assert "there is no signed statement" in why_not(world, made, "testing")


def test_missing_data(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    conclude(world.store, promotion.id, analysis(promotion, "Error"))
    assert "there is no signed statement" in why_not(world, made, "testing")


def test_an_unsigned_statement(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    tamper(
        world.store,
        "statements",
        "UPDATE statements SET envelope = json_set(envelope, '$.signatures', json('[]'))",
    )
    assert "it is not signed" in why_not(world, made, "testing")


def test_a_failed_statement_altered_to_passed(world: World) -> None:
    import base64

    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing", "Failed")
    with world.store.reading() as connection:
        envelope = json.loads(connection.scalars(text("SELECT envelope FROM statements")).one())
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["verificationResult"] = "PASSED"
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    quoted = json.dumps(envelope).replace("'", "''")
    tamper(
        world.store,
        "statements",
        f"UPDATE statements SET envelope = '{quoted}', result = 'PASSED', verdict = 'Successful'",
    )
    assert "its text was altered" in why_not(world, made, "testing")


def test_a_failed_statement_whose_row_says_passed(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing", "Failed")
    tamper(world.store, "statements", "UPDATE statements SET result = 'PASSED'")
    assert "something else than the row" in why_not(world, made, "testing")


def test_a_statement_of_another_environment(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "training")
    tamper(world.store, "statements", "UPDATE statements SET environment = 'testing'")
    assert "something else than the row" in why_not(world, made, "testing")


def test_a_statement_of_another_candidate(world: World) -> None:
    good, bad = (world.store.add_candidate(candidate(x)) for x in "ab")
    world.judged(good, "testing")
    tamper(world.store, "statements", f"UPDATE statements SET candidate = '{bad.id}'")
    assert f"its digests are not those of candidate {bad.id}" in why_not(world, bad, "testing")


def test_a_candidate_whose_model_file_was_exchanged_after_the_test(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    tamper(
        world.store,
        "candidates",
        f"UPDATE candidates SET body = replace(body, '{made.model_digest}', '{'b' * 64}')",
    )
    assert "its digests are not those" in why_not(world, made, "testing")


def test_a_statement_signed_with_a_key_nobody_trusts(world: World, tmp_path: Path) -> None:
    from sevenfold.evidence.signing import Keys

    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    assert world.store.keys.signer, "the store has a key of its own"
    conclude(world.store, promotion.id, analysis(promotion, "Successful"), Keys(tmp_path / "mine").signer)
    assert "no trusted key" in why_not(world, made, "testing")


def test_a_key_that_is_no_longer_trusted(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    shutil.rmtree(world.store.keys.folder)
    fresh = World(Store(world.store.url.render_as_string(), world.store.keys.folder))
    assert "no key is trusted here" in why_not(fresh, made, "testing")


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("measurements", "UPDATE measurements SET body = replace(body, '0.7', '0.9')", "measurements"),
        ("measurements", "DELETE FROM measurements", "measurements"),
        ("analyses", "UPDATE analyses SET body = replace(body, '0.7', '0.9')", "analysis"),
        ("analyses", "DELETE FROM analyses", "analysis"),
    ],
)
def test_what_a_statement_rests_on_was_altered(world: World, table: str, change: str, said: str) -> None:
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing")
    tamper(world.store, table, change)
    assert f"the {said} that it rests on" in why_not(world, made, "testing")
    assert len(verify(world.store)) == 1


def test_the_end_of_the_audit_log_was_cut_off(world: World) -> None:
    world.judged(world.store.add_candidate(candidate("a")), "testing", run="one")
    world.judged(world.store.add_candidate(candidate("b")), "testing", run="two")
    assert verify(world.store) == []
    tamper(world.store, "audit", "DELETE FROM audit WHERE sequence > 6")
    problems = verify(world.store)
    print(*problems, sep="\n")
    assert any("does not know the statement of promotion coin/testing/two" in one for one in problems)
    tamper(world.store, "audit", "DELETE FROM audit WHERE sequence > 4")
    assert any("line 6 is gone" in one for one in verify(world.store))


def test_a_refusal_that_was_taken_out(world: World) -> None:
    """It would pass, for an earlier run did; that something is missing shows in the audit log."""
    made = world.store.add_candidate(candidate("a"))
    world.judged(made, "testing", run="one")
    world.judged(made, "testing", "Failed", run="two")
    assert "was refused" in why_not(world, made, "testing")
    tamper(world.store, "statements", "DELETE FROM statements WHERE result = 'FAILED'")
    (problem,) = verify(world.store)
    print(problem)
    assert "The statement of promotion coin/testing/two is gone" in problem


def test_an_expired_override(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    refused = world.judged(made, "testing", "Failed")
    until = datetime.now(UTC) + timedelta(days=1)
    request_override(world.store, refused.id, REQUESTER, "known gap", ["auc"], until)
    assert world.store.passed(made.id, "testing", now=until - timedelta(seconds=1))
    assert not world.store.passed(made.id, "testing", now=until)
    assert f"expired on {until:%Y-%m-%d %H:%M}" in why_not(world, made, "testing", until)


def test_an_override_that_expired_before_the_gate_spoke(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.begin(made, "testing")
    until = datetime.now(UTC) + timedelta(days=1)
    request_override(world.store, promotion.id, REQUESTER, "known gap", ["*"], until)
    monkeypatch.setattr("sevenfold.gates.conclude.datetime", _clock_at(until))
    assert conclude(world.store, promotion.id, analysis(promotion, "Failed")).state == "refused"
    assert "was refused" in why_not(world, made, "testing")


def test_an_override_made_longer_in_the_database(world: World) -> None:
    """The expiry that counts is the signed one."""
    made = world.store.add_candidate(candidate("a"))
    refused = world.judged(made, "testing", "Failed")
    until = datetime.now(UTC) + timedelta(days=1)
    request_override(world.store, refused.id, REQUESTER, "known gap", ["auc"], until)
    tamper(world.store, "overrides", "UPDATE overrides SET expires_at = '2999-01-01 00:00:00.000000'")
    why_not(world, made, "testing", until + timedelta(days=1))


@pytest.mark.parametrize("request_number", ["NULL", "1"])
def test_an_override_slipped_into_the_database_lifts_nothing(world: World, request_number: str) -> None:
    """Where it takes two people their signatures count, not the row; nor one that names a real request."""
    world.know(REQUESTER, APPROVER)
    until = datetime.now(UTC) + timedelta(days=1)
    promotion = world.begin(world.store.add_candidate(candidate("a")), "preproduction")
    world.grants_override(world.asks_override(promotion, ["latency"], until))
    with world.store.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO overrides (promotion, requested_by, approved_by, reason, scope, expires_at, at, "
                "request) SELECT promotion, requested_by, approved_by, 'trust me', '[\"*\"]', expires_at, "
                f"at, {request_number} FROM overrides"
            )
        )
    world.measure(promotion)
    assert conclude(world.store, promotion.id, analysis(promotion, "Failed")).state == "refused"


def test_an_override_granted_where_somebody_switched_four_eyes_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of one's own shell is no second person: whoever relies on the statement looks again."""
    made = world.store.add_candidate(candidate("a"))
    refused = world.judged(made, "preproduction", "Failed")
    until = datetime.now(UTC) + timedelta(days=1)
    with monkeypatch.context() as shell:
        shell.setattr("sevenfold.people.request.settings", lambda: Settings(four_eyes=False))
        asked = request_override(world.store, refused.id, REQUESTER, "trust me", ["*"], until)
        grant_override(world.store, asked.number, REQUESTER, "me again")
        assert world.store.passed(made.id, "preproduction"), "one person is enough where that is the setting"
    assert "not one that two people signed" in why_not(world, made, "preproduction")


def test_revoked_evidence(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    promotion = world.judged(made, "testing")
    revoke(world.store, promotion.id, OPERATOR, "labels were wrong")
    assert "was revoked (labels were wrong)" in why_not(world, made, "testing")


def test_a_test_set_looked_at_more_often_than_its_budget(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    for k in range(2):
        world.store.use_test_set(world.begin(made, "testing", f"run{k}").id, "april", budget=2)
    with pytest.raises(BudgetSpent) as spent:
        world.store.use_test_set(world.begin(made, "testing", "more").id, "april", budget=2)
    print(spent.value)
    assert "needs a fresh one" in str(spent.value)


FORGED = {
    "an approval by nobody": (
        "approvals",
        "INSERT INTO approvals (promotion, candidate, approver, reason, at) SELECT promotion, candidate, "
        "'mallory', 'trust me', at FROM approvals WHERE promotion = 'coin/preproduction/a-run'",
        "does not know the approval of promotion coin/preproduction/a-run by mallory",
    ),
    "an approval of another person": (
        "approvals", "UPDATE approvals SET approver = 'mallory'", "the approval of promotion",
    ),
    "an override by nobody": (
        "overrides",
        "INSERT INTO overrides (promotion, requested_by, approved_by, reason, scope, expires_at, at) SELECT "
        "promotion, 'eve', 'mallory', 'trust me', '[\"*\"]', at, at FROM approvals WHERE "
        "promotion = 'coin/preproduction/a-run'",
        "does not know the override of promotion coin/preproduction/a-run by mallory",
    ),
    "an override that lifts more": (
        "overrides", "UPDATE overrides SET scope = '[\"*\"]'", "the override of promotion",
    ),
    "an override made longer": (
        "overrides",
        "UPDATE overrides SET expires_at = '2999-01-01 00:00:00.000000'",
        "the override of promotion",
    ),
    "a revocation that was taken out": (
        "revocations", "DELETE FROM revocations", "The revocation of promotion coin/testing/a-run by olga is",
    ),
    "a requester exchanged, so that he may approve": (
        "promotions", "UPDATE promotions SET requested_by = 'sevenfold'", "the beginning of promotion",
    ),
    "a promotion called promoted": (
        "promotions",
        "UPDATE promotions SET state = 'promoted' WHERE state = 'refused'",
        "is promoted, and the audit log says refused",
    ),
    "a look at a test set that was taken out": (
        "test_set_uses", "DELETE FROM test_set_uses", "The look at a test set of promotion",
    ),
    "a champion set by hand": (
        "release_rows",
        "UPDATE release_rows SET champion = previous",
        "The release row of coin is not the last one of its history",
    ),
    "a change of the release row that nobody made": (
        "release_history",
        "UPDATE release_history SET who = 'mallory' WHERE generation = 1",
        "does not know the change of the release row of model coin by mallory",
    ),
    "a roll-back forgotten, so that its candidate may serve again": (
        "roll_backs", "DELETE FROM roll_backs", "The roll-back of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGED)
def test_what_is_slipped_into_a_table_or_taken_out_shows(world: World, forgery: str) -> None:
    table, change, said = FORGED[forgery]
    world.crowned("a")
    world.crowned("b")
    release.roll_back(world.store, "coin", OPERATOR, "complaints")
    refused = world.judged(world.store.add_candidate(candidate("c")), "testing", "Failed", "c")
    request_override(
        world.store, refused.id, REQUESTER, "known gap", ["latency"], datetime.now(UTC) + timedelta(days=1)
    )
    world.store.use_test_set(refused.id, "april")
    revoke(world.store, "coin/testing/a-run", OPERATOR, "labels were wrong")
    assert verify(world.store) == []
    tamper(world.store, table, change)
    problems = verify(world.store)
    print(*problems, sep="\n")
    assert any(said in problem for problem in problems)


@pytest.mark.parametrize("lost", ["training", "testing", "staging", "preproduction"])
def test_production_without_one_of_the_environments(world: World, lost: str) -> None:
    made = world.proven("a")
    revoke(world.store, f"coin/{lost}/a-run", OPERATOR, "labels were wrong")
    promotion = world.begin(made, "production")
    with pytest.raises(EvidenceLacking, match=f"has not passed {lost}") as refused:
        release.claim(world.store, promotion.id, OPERATOR)
    print(refused.value)
    assert world.row.candidate is None


def test_production_without_a_persons_approval(world: World) -> None:
    made = world.store.add_candidate(candidate("a"))
    for environment in ("training", "testing", "staging", "preproduction"):
        world.judged(made, environment)
    promotion = world.begin(made, "production")
    with pytest.raises(EvidenceLacking, match="No person has approved") as refused:
        release.claim(world.store, promotion.id, OPERATOR)
    print(refused.value)


def test_a_champion_without_a_conclusion_of_production(world: World) -> None:
    promotion = world.rolling(world.proven("a"), share=1.0)
    with pytest.raises(EvidenceLacking) as refused:
        release.promote(world.store, promotion.id, OPERATOR)
    print(refused.value)
    assert world.row.champion is None


def _clock_at(moment: datetime) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return moment

    return Clock
