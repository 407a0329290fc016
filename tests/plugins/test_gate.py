"""The gate and what follows it: each verdict acts as it should, and nothing else decides."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from tests.airflow_home import context
from tests.rail_world import World

from sevenfold.candidates.candidate import Candidate
from sevenfold.evidence.database import StoreUnavailable
from sevenfold.release.promotion import Promotion
from sevenfold_airflow import triggers
from sevenfold_airflow.close import CloseOperator, FinishOperator, leave_word
from sevenfold_airflow.gate import GateSensor
from sevenfold_airflow.promote import PromoteOperator
from sevenfold_airflow.triggers import GateTrigger

ASSET = Asset("toy.testing", uri="sevenfold://toy/testing")


def task(kind: Any, environment: str = "testing", **more: Any) -> Any:
    with DAG(f"toy.{environment}", schedule=None):
        return kind(task_id=kind.__name__.lower(), **more)


def gate(environment: str = "testing", retries: int = 0, **more: Any) -> str:
    made = task(GateSensor, environment, retries=retries)
    said: str = made.execute(context(made, **more))
    return said


def promote(environment: str = "testing") -> dict[str, Any]:
    made = task(PromoteOperator, environment, asset=ASSET)
    event = type("Event", (), {"extra": {}})()
    made.execute(context(made, outlet_events={ASSET: event}))
    return dict(event.extra)


@pytest.fixture
def promotion(world: World) -> Promotion:
    candidate = world.candidate()
    world.passes(candidate, "training")
    return world.begin("testing", "run-1", candidate)


def state(world: World, environment: str = "testing") -> tuple[str, str | None]:
    found = world.store.promotion(f"toy/{environment}/run-1")
    return found.state, found.verdict


def test_successful_promotes_with_evidence(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.1)
    assert promotion.candidate in gate()
    assert state(world) == ("promoted", "Successful")
    assert world.store.passed(promotion.candidate or "", "testing")
    assert promote() == {"candidate": promotion.candidate, "promotion": promotion.id}


def test_failed_fails_at_once_with_the_reason(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.9)
    with pytest.raises(AirflowFailException, match=r"refused: toy-\w+: Loss"):
        gate(retries=3)
    assert state(world) == ("refused", "Failed")
    assert world.store.analyses(promotion.id)[-1].verdict == "Failed"


def test_absent_evidence_is_an_error_that_is_retried_and_then_held(
    world: World, promotion: Promotion
) -> None:
    with pytest.raises(AirflowException, match="train left no reading") as first:
        gate(retries=1, try_number=1)
    assert not isinstance(first.value, AirflowFailException)
    assert state(world) == ("running", None)
    with pytest.raises(AirflowFailException, match=r"error: .*train left no reading"):
        gate(retries=1, try_number=2)
    assert state(world) == ("error", "Error")


@pytest.mark.parametrize("loss", [None, float("nan")])
def test_a_number_that_is_none_never_passes(world: World, promotion: Promotion, loss: float | None) -> None:
    world.measure(promotion, loss)
    with pytest.raises(AirflowFailException, match="error"):
        gate()


def test_another_models_reading_never_passes(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.1, digest="0" * 64)
    with pytest.raises(AirflowFailException, match="error"):
        gate()


def test_a_second_try_after_the_conclusion_changes_nothing(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.1)
    gate()
    world.measure(promotion, 0.9)
    assert promotion.candidate in gate(try_number=2)
    assert len(world.store.analyses(promotion.id)) == 1


def polled(world: World, promotion: Promotion, bad: int, n: int, interval: str, **more: Any) -> None:
    world.measure(
        promotion,
        bad / n,
        activity="canary",
        metric="errors",
        n=n,
        interval=interval,
        counts={"bad": bad, "n": n},
        **more,
    )


def test_inconclusive_waits_until_enough_is_known(world: World, promotion: Promotion) -> None:
    world.polled("testing")
    world.measure(promotion, 0.1)
    polled(world, promotion, 1, 10, "i1")
    with pytest.raises(TaskDeferred) as waiting:
        gate()
    assert state(world) == ("running", None)
    trigger = waiting.value.trigger
    assert isinstance(trigger, GateTrigger)
    path, arguments = trigger.serialize()
    assert path == "sevenfold_airflow.triggers.GateTrigger"
    assert GateTrigger(**arguments).serialize() == (path, arguments)

    polled(world, promotion, 20, 1000, "i2")
    woken = asyncio.run(anext(aiter(GateTrigger(**arguments).run())))
    assert woken.payload == {"why": "the verdict is Successful"}
    made = task(GateSensor)
    made.execute_complete(context(made), woken.payload)
    assert state(world) == ("promoted", "Successful")


def test_past_the_deadline_it_is_held_and_nobody_is_paged(world: World, promotion: Promotion) -> None:
    world.polled("testing", deadline="1s")
    world.measure(promotion, 0.1)
    polled(world, promotion, 1, 10, "i1")
    arguments = {"promotion": promotion.id, "decide_by": datetime.now(UTC).isoformat()}
    woken = asyncio.run(anext(aiter(GateTrigger(**arguments).run())))
    assert woken.payload == {"why": "the deadline has passed"}
    asyncio.run(asyncio.sleep(1.1))
    with pytest.raises(AirflowSkipException, match="held: "):
        gate()
    assert state(world) == ("held", "Inconclusive")


def test_a_forged_event_decides_nothing(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.9)
    made = task(GateSensor, retries=0)
    with pytest.raises(AirflowFailException, match="refused"):
        made.execute_complete(context(made), {"why": "the verdict is Successful"})


def test_the_trigger_waits_quietly_and_wakes_on_trouble(world: World, promotion: Promotion) -> None:
    world.polled("testing")
    world.measure(promotion, 0.1)
    polled(world, promotion, 1, 10, "i1")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    trigger = GateTrigger(promotion.id, later, poll_seconds=0.01)
    seen, why = trigger._look(0)
    assert seen
    assert why is None
    assert trigger._look(seen) == (seen, None)
    (world.models / "toy" / "gates" / "testing.yaml").write_text("metrics: 3")
    polled(world, promotion, 1, 10, "i2")
    assert "judging failed" in (trigger._look(seen)[1] or "")
    world.store.end_promotion(promotion.id, "superseded", "Inconclusive", "newer")
    assert trigger._look(seen)[1] == "the promotion has ended"


def test_a_database_that_is_away_for_a_while_ends_no_wait(
    world: World, promotion: Promotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("The evidence store cannot be used: it is failing over.")

    monkeypatch.setattr(triggers, "open_store", away)
    now = datetime.now(UTC)
    waiting, over = (
        GateTrigger(promotion.id, (now + timedelta(hours=hours)).isoformat()) for hours in (1, -1)
    )
    assert waiting._look(7) == (7, None)
    assert over._look(7)[1] == "the deadline has passed"


def test_a_missing_gate_file_fails_with_its_name(world: World, promotion: Promotion) -> None:
    (world.models / "toy" / "gates" / "testing.yaml").unlink()
    with pytest.raises(AirflowFailException, match=r"gates/testing\.yaml"):
        gate()


def test_no_candidate_is_no_pass(world: World) -> None:
    world.begin("testing", "run-1", None)
    with pytest.raises(AirflowFailException, match="carries no candidate"):
        gate()


# Promote: the evidence, not the colour of the gate's task


def test_promote_does_not_believe_a_gate_that_was_marked_successful(
    world: World, promotion: Promotion
) -> None:
    with pytest.raises(AirflowFailException, match=r"no complete, valid, passing evidence of testing"):
        promote()
    assert state(world) == ("running", None)


def test_promote_after_a_refusal(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.9)
    with pytest.raises(AirflowFailException):
        gate()
    with pytest.raises(AirflowFailException, match="has ended as refused"):
        promote()


def test_promote_does_not_count_what_an_earlier_run_showed(world: World) -> None:
    candidate = world.candidate()
    world.passes(candidate, "training", "testing")
    promotion = world.begin("testing", "run-1", candidate)
    assert world.store.passed(candidate.id, "testing")
    with pytest.raises(AirflowFailException, match=f"evidence of testing from promotion {promotion.id}"):
        promote()
    assert state(world) == ("running", None)


def test_promote_counts_the_new_statement_of_an_override(world: World, promotion: Promotion) -> None:
    from sevenfold.people.override import request_override

    world.measure(promotion, 0.9)
    with pytest.raises(AirflowFailException):
        gate()
    until = datetime.now(UTC) + timedelta(days=1)
    request_override(world.store, promotion.id, "ada", "known and small", ["*"], until)
    assert promote()["promotion"] == promotion.id


def test_promote_twice_is_once(world: World, promotion: Promotion) -> None:
    world.measure(promotion)
    gate()
    assert promote() == promote()


# Close: nothing stays open


def close(failed: str = "train", environment: str = "testing") -> None:
    made = task(CloseOperator, environment)
    made.execute(context(made, states={failed: "failed", "gate": "upstream_failed"}))


def test_a_run_that_failed_before_its_gate_is_closed_and_red(world: World, promotion: Promotion) -> None:
    with pytest.raises(AirflowFailException, match="error: train failed before the gate could judge"):
        close()
    assert state(world) == ("error", "Error")


def test_close_says_why_the_activity_failed(world: World, promotion: Promotion) -> None:
    world.store.activity_failed("train", promotion.id, "the disk is full")
    world.store.activity_failed("train", promotion.id, "the model is a pickle")
    world.store.activity_failed("contract", promotion.id, "it did well in the next try")
    world.store.activity_failed("train", "toy/testing/another", "another run")
    sentence = "train failed before the gate could judge; train last said: the model is a pickle"
    with pytest.raises(AirflowFailException, match=f"^error: {sentence}$"):
        close()
    assert world.store.promotion(promotion.id).outcome == sentence


def leave(began: datetime, why: str) -> None:
    made = task(CloseOperator, "testing")
    leave_word(
        context(made)
        | {"ti": SimpleNamespace(task_id="train", start_date=began), "exception": Exception(why)}
    )


def test_close_says_why_a_pod_that_never_ran_failed(world: World, promotion: Promotion) -> None:
    world.store.activity_failed("train", promotion.id, "the first try found the disk full")
    leave(datetime.now(UTC), "train could not get its image")
    with pytest.raises(AirflowFailException, match=r"train last said: train could not get its image$"):
        close()


def test_what_an_activity_said_itself_stands(world: World, promotion: Promotion) -> None:
    began = datetime.now(UTC)
    world.store.activity_failed("train", promotion.id, "the model is a pickle")
    leave(began, "train ended with exit code 1 after 2.0 s")
    with pytest.raises(AirflowFailException, match=r"train last said: the model is a pickle$"):
        close()


def test_close_says_what_the_gate_said(world: World, promotion: Promotion) -> None:
    world.measure(promotion, 0.9)
    with pytest.raises(AirflowFailException):
        gate()
    with pytest.raises(AirflowFailException, match="refused: Loss"):
        close("gate")
    assert state(world) == ("refused", "Failed")


def test_a_run_that_was_never_admitted(world: World) -> None:
    with pytest.raises(AirflowFailException, match="admit failed, and no promotion had begun"):
        close("admit")


def test_finish_ends_monitoring(world: World) -> None:
    world.begin("monitoring", "run-1", world.candidate())
    made = task(FinishOperator, "monitoring")
    made.execute(context(made))
    assert state(world, "monitoring") == ("promoted", "Successful")


# Production: the release row follows the verdict


def on_trial(world: World) -> tuple[Candidate, Promotion]:
    from sevenfold.people.approval import record_approval
    from sevenfold.release import release

    candidate = world.candidate()
    world.passes(candidate, "training", "testing", "staging", "preproduction")
    promotion = world.begin("production", "run-1", candidate)
    record_approval(world.store, promotion.id, "grace", "looks good")
    release.claim(world.store, promotion.id, "test")
    release.set_share(world.store, promotion.id, 0.2, "test")
    return candidate, promotion


def test_a_candidate_that_fails_live_comes_off_with_the_verdict(world: World) -> None:
    from sevenfold.release import release

    _, promotion = on_trial(world)
    world.measure(promotion, 0.9)
    with pytest.raises(AirflowFailException, match="refused"):
        gate("production")
    row = release.row(world.store, "toy")
    assert (row.candidate, row.share, row.champion) == (None, 0.0, None)
    assert state(world, "production") == ("refused", "Failed")
    assert row.held == world.store.promotion(promotion.id).outcome, "whether or not roll_back ever runs"


def test_a_gate_that_is_killed_after_its_verdict_has_taken_the_candidate_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdict, end, candidate off and hold are one transaction: there is no moment between."""
    from sevenfold.release import release

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    _, promotion = on_trial(world)
    world.measure(promotion, 0.9)
    monkeypatch.setattr(release, "settle", killed)
    monkeypatch.setattr(GateSensor, "_act_on", killed)
    with pytest.raises(KeyboardInterrupt):
        gate("production")
    row = release.row(world.store, "toy")
    assert (row.candidate, row.share) == (None, 0.0) and row.held
    assert state(world, "production") == ("refused", "Failed")


def test_one_that_passes_becomes_champion_when_it_is_promoted(world: World) -> None:
    from sevenfold.release import release

    candidate, promotion = on_trial(world)
    world.measure(promotion)
    gate("production")
    assert release.row(world.store, "toy").champion is None
    promote("production")
    assert release.row(world.store, "toy").champion == candidate.id
    assert state(world, "production") == ("promoted", "Successful")


@pytest.mark.parametrize(
    ("inconclusive", "said", "ended"),
    [
        (True, AirflowSkipException, ("held", "Inconclusive")),
        (False, AirflowFailException, ("error", "Error")),
    ],
)
def test_a_second_run_is_not_green_by_what_an_earlier_one_showed(
    world: World, inconclusive: bool, said: type[Exception], ended: tuple[str, str]
) -> None:
    from sevenfold.release import release

    candidate, promotion = on_trial(world)
    world.passes(candidate, "production")
    assert world.store.passed(candidate.id, "production")
    if inconclusive:
        world.polled("production", deadline="1s")
        world.measure(promotion, 0.1)
        polled(world, promotion, 1, 10, "i1")
        asyncio.run(asyncio.sleep(1.1))
    with pytest.raises(said):
        gate("production")
    assert state(world, "production") == ended
    assert release.row(world.store, "toy").candidate is None


# A gate that is edited while a candidate is on its way


def loosened(world: World, environment: str = "testing") -> None:
    path = world.models / "toy" / "gates" / f"{environment}.yaml"
    path.write_text(path.read_text().replace("limit: 0.5", "limit: 5.0"))


def test_a_gate_that_was_loosened_meanwhile_passes_nothing_and_says_what_changed(
    world: World, promotion: Promotion
) -> None:
    world.measure(promotion, 0.9)
    loosened(world)
    with pytest.raises(AirflowFailException, match=r"loss of train: limit 0\.5 is now 5\.0.*nobody let"):
        gate()
    assert state(world) == ("error", "Error")
    assert not world.store.passed(promotion.candidate or "", "testing")


def test_a_candidate_made_after_the_change_is_judged_by_it(world: World) -> None:
    loosened(world)
    candidate = world.candidate("second")
    world.passes(candidate, "training")
    world.measure(world.begin("testing", "run-1", candidate), 0.9)
    assert candidate.id in gate()
    assert state(world) == ("promoted", "Successful")
