"""What a run is about: read from the store, asked for by a person, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from tests.airflow_home import context
from tests.rail_world import AS_OF, World

from sevenfold.candidates.candidate import Candidate
from sevenfold.evidence.store import Store
from sevenfold.model.spec import Resources
from sevenfold.release.promotion import Promotion
from sevenfold_airflow.admit import AdmitOperator, NotAdmitted, Wish, find_subject, require_activities


def admit(environment: str, run: str = "run-1", how: str = "asset_triggered", **params: Any) -> None:
    with DAG(f"toy.{environment}", schedule=None, params=dict.fromkeys(params)):
        task = AdmitOperator(task_id="admit", model="toy", environment=environment)
    task.execute(context(task, run, params=params, run_type=how))


def last(world: World, environment: str) -> Promotion:
    return world.store.promotions("toy", environment)[-1]


def ready_for_staging(world: World, name: str = "first") -> Candidate:
    candidate = world.candidate(name)
    world.passes(candidate, "training", "testing")
    return candidate


def test_the_newest_that_is_due_is_taken_and_older_ones_are_superseded(world: World) -> None:
    older, newer = ready_for_staging(world, "older"), ready_for_staging(world, "newer")
    admit("staging")
    begun = world.store.promotion("toy/staging/run-1")
    assert (begun.candidate, begun.as_of, begun.state) == (newer.id, AS_OF, "running")
    assert begun.reason == "promoted out of testing"
    [old] = world.store.promotions("toy", "staging", older.id)
    assert (old.state, old.outcome) == ("superseded", f"superseded by {newer.id}, which is newer")
    assert world.store.due("toy", "staging") == []


def test_nothing_due_skips_the_run_with_a_sentence(world: World) -> None:
    with pytest.raises(AirflowSkipException, match="no candidate of toy waits for staging"):
        admit("staging")
    assert world.store.promotions("toy") == []


def test_a_retry_gets_the_same_promotion(world: World) -> None:
    ready_for_staging(world)
    admit("staging")
    admit("staging")
    assert len(world.store.promotions("toy", "staging")) == 1


def test_a_run_that_has_ended_is_not_opened_again(world: World) -> None:
    ready_for_staging(world)
    admit("staging")
    world.store.end_promotion("toy/staging/run-1", "held", "Inconclusive", "too few rows")
    with pytest.raises(AirflowFailException, match=r"has ended \(held: too few rows\); start a new run"):
        admit("staging")


def test_what_an_earlier_run_left_open_is_ended(world: World) -> None:
    ready_for_staging(world, "one")
    admit("staging", "stopped")
    ready_for_staging(world, "two")
    admit("staging", "next")
    left = world.store.promotion("toy/staging/stopped")
    assert (left.state, left.verdict) == ("error", "Error")


def test_a_candidate_is_refused_that_has_not_passed_what_comes_before(world: World) -> None:
    candidate = world.candidate()
    world.passes(candidate, "training")
    with pytest.raises(AirflowFailException, match=r"not admitted to staging: .* has not passed testing"):
        admit("staging", how="manual", candidate=candidate.id)
    assert world.store.promotions("toy", "staging") == []


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"candidate": "toy-000000000000"}, "no candidate toy-000000000000"),
        ({"as_of": "yesterday"}, "as_of is a date such as 2020-03-01, not 'yesterday'"),
        ({"as_of": "2031-01-01"}, "as_of 2031-01-01 is outside the data of toy"),
        ({"hyperparameters": {"lerning_rate": 1}}, "toy has no hyperparameter 'lerning_rate'"),
    ],
)
def test_bad_wishes_fail_with_one_sentence(world: World, params: dict[str, Any], said: str) -> None:
    with pytest.raises(AirflowFailException, match=said):
        admit("training", how="manual", **params)
    assert world.store.promotions("toy") == []


def test_an_unknown_model(world: World) -> None:
    with DAG("nobody.training", schedule=None):
        task = AdmitOperator(task_id="admit", model="nobody", environment="training")
    with pytest.raises(AirflowFailException, match="there is no model 'nobody'"):
        task.execute(context(task))


def alarm(world: World, window: str, kind: str = "harmful_drift", **more: Any) -> None:
    world.store.add_alert("toy", kind, window, AS_OF, "critical", 2.0, f"harm in {window}", **more)


def test_training_answers_all_open_alerts_once(world: World) -> None:
    alarm(world, "w1")
    alarm(world, "w2")
    alarm(world, "w3", kind="harmless_drift", state="dismissed")
    admit("training")
    begun = last(world, "training")
    assert (begun.reason, begun.as_of, begun.candidate) == ("harm in w2", AS_OF, None)
    assert begun.requested_by == "ada"
    assert world.store.open_alerts("toy") == []
    assert {a.outcome for a in world.store.alerts("toy")} >= {"training began: toy/training/run-1"}
    with pytest.raises(AirflowSkipException, match="no open alert and no new candidate"):
        admit("training", "second")


def test_killed_between_begin_and_close_the_next_try_closes_the_alert(world: World) -> None:
    alarm(world, "w1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "close_alert", killed)
        with pytest.raises(KeyboardInterrupt):
            admit("training")
    assert len(world.store.open_alerts("toy")) == 1
    admit("training")
    assert world.store.open_alerts("toy") == []
    assert len(world.store.promotions("toy")) == 1


def test_training_takes_an_idea_of_development(world: World) -> None:
    idea = world.candidate()
    world.passes(idea, "development")
    admit("training")
    begun = last(world, "training")
    assert (begun.origin, begun.reason) == (idea.id, "promoted out of development")


def test_the_schedule_trains_as_of_the_models_clock(world: World) -> None:
    moment = datetime(2020, 2, 11, tzinfo=UTC)
    world.store.set_clock("toy", moment)
    admit("training", how="scheduled")
    assert last(world, "training").as_of == moment


def test_a_persons_wish_comes_before_an_alert(world: World) -> None:
    alarm(world, "w1")
    admit("training", how="manual", as_of="2020-02-01", window_months=1, reason="what if")
    begun = last(world, "training")
    assert (begun.as_of, begun.reason) == (datetime(2020, 2, 1, tzinfo=UTC), "what if")
    assert begun.params == {"window_months": 1}
    assert len(world.store.open_alerts("toy")) == 1


def test_monitoring_without_a_champion_has_nothing_to_do(world: World) -> None:
    with pytest.raises(AirflowSkipException, match="no champion in production yet"):
        admit("monitoring", how="scheduled")


def test_development_begins_with_nothing(world: World) -> None:
    admit("development", how="manual", as_of="2020-02-01", sample_rows=2000)
    begun = last(world, "development")
    assert (begun.candidate, begun.params, begun.requested_by) == (None, {"sample_rows": 2000}, "ada")


def test_a_misspelt_field_is_refused_and_not_ignored(world: World) -> None:
    with DAG("toy.development", schedule=None, params={"sample_rows": None, "seed": None}):
        task = AdmitOperator(task_id="admit", model="toy", environment="development")
    with pytest.raises(AirflowFailException, match="has no field 'sample_row'; it has sample_rows, seed"):
        task.execute(context(task, "run-1", params={"sample_row": 2000}, run_type="manual"))
    assert world.store.promotions("toy") == []


def test_resources_of_an_activity_that_there_is_not_are_refused(world: World) -> None:
    with DAG("toy.training", schedule=None) as dag:
        AdmitOperator(task_id="admit", model="toy", environment="training")
    given = {"training.admit": Resources(), "testing.train": Resources(), "training": Resources()}
    require_activities(dag, world.spec.model_copy(update={"resources": given}), "training")
    misspelt = world.spec.model_copy(update={"resources": {**given, "training.trian": Resources()}})
    with pytest.raises(NotAdmitted, match=r"gives resources to training\.trian, which is no activity"):
        require_activities(dag, misspelt, "training")


def test_a_candidate_whose_gate_was_changed_meanwhile_is_not_even_begun(world: World) -> None:
    candidate = world.candidate()
    world.passes(candidate, "training")
    path = world.models / "toy" / "gates" / "testing.yaml"
    path.write_text(path.read_text().replace("limit: 0.5", "limit: 5.0"))
    with pytest.raises(NotAdmitted, match=r"loss of train: limit 0\.5 is now 5\.0"):
        find_subject(world.store, world.spec, "testing", Wish(candidate.id), "manual")
    world.let_through(candidate, "testing")
    subject = find_subject(world.store, world.spec, "testing", Wish(candidate.id), "manual")
    assert subject.candidate == candidate.id
