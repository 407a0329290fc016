"""The search of training: what it leaves in MLflow, for people, for train, and for the gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.activities.toy_world import AS_OF, ToyWorld

from activities.training import search, train
from sevenfold.candidates import lineage
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import windows
from sevenfold.development.beforehand import Beforehand, claim
from sevenfold.errors import SevenfoldError
from sevenfold.search import found
from sevenfold.search import record as records
from sevenfold.training.tracking import TrackingUnavailable

FIXED = {"epochs": 2, "hidden": 16}
POOR = {"learning_rate": 0.001}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyWorld]:
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file keeps its artifacts beside it
        patch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
        chosen = train.chosen
        patch.setattr(search, "chosen", lambda activity, parent: chosen(activity, parent) | POOR)
        yield ToyWorld(folder)


def searching(world: ToyWorld, run: str = "s1", **params: Any) -> Any:
    given = {"search_trials": 11, "hyperparameters": FIXED} | params
    return world.activity("search", "training", run, **given)


@pytest.fixture(scope="module")
def searched(world: ToyWorld) -> Any:
    activity = searching(world)
    search.main(activity)
    return activity


def runs_below(world: ToyWorld, experiment: str, run: str) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(world.settings.mlflow_url)
    where = [client.get_experiment_by_name(experiment).experiment_id]
    (parent,) = client.search_runs(where, f"tags.`sevenfold.promotion` = '{run}'")
    return list(client.search_runs(where, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"))


def test_every_trial_is_a_run_with_its_settings_and_losses(world: ToyWorld, searched: Any) -> None:
    runs = runs_below(world, "toy.training", "toy/training/s1/search")
    assert len(runs) == 11
    by_trial = {int(run.data.tags[records.TRIAL]): run for run in runs}
    assert sorted(by_trial) == list(range(11))
    first = by_trial[0]
    assert float(first.data.params["learning_rate"]) == 0.001
    assert first.data.params["epochs"] == "2"
    assert first.info.end_time >= first.info.start_time
    ends = {run.data.tags["sevenfold.end"] for run in runs}
    assert ends == {"complete", "stopped early"}
    losses = [run.data.metrics["best_stopping_loss"] for run in runs]
    assert min(losses) < first.data.metrics["best_stopping_loss"]


def test_a_retry_repeats_nothing(world: ToyWorld, searched: Any) -> None:
    before = found(searched)
    search.main(searching(world))
    assert found(searched) == before
    assert len(runs_below(world, "toy.training", "toy/training/s1/search")) == 11


def test_the_page_has_its_pictures_and_every_trial(world: ToyWorld, searched: Any) -> None:
    import mlflow

    (report,) = [r for r in world.store.reports("toy/training/s1") if r.path.endswith("search.html")][:1]
    page = world.artifacts.read(report.path).decode()
    assert page.count("data:image/png;base64") == 2
    assert "nothing can be said of the settings" in page
    assert "its settings are taken" in page
    client = mlflow.MlflowClient(world.settings.mlflow_url)
    where = [client.get_experiment_by_name("toy.training").experiment_id]
    (parent,) = client.search_runs(where, "tags.`sevenfold.promotion` = 'toy/training/s1/search'")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"history.png", "curves.png"}


def test_training_takes_what_was_found_and_the_candidate_its_readings(world: ToyWorld, searched: Any) -> None:
    settings = found(searched)
    assert settings is not None
    assert settings["learning_rate"] > 0.002
    assert {name: settings[name] for name in FIXED} == FIXED
    training = world.activity("train", "training", "s1")
    train.main(training)
    candidate = training.candidate
    assert candidate.hyperparameters == settings
    readings = {m.metric: m for m in world.store.measurements("toy/training/s1", "search")}
    assert set(readings) == {"trials", "trials_stopped_early", "best_stopping_loss"}
    assert readings["trials"].value == 11
    assert {(m.candidate, m.digest) for m in readings.values()} == {(candidate.id, candidate.model_digest)}
    assert readings["trials"].source == "training.search"
    other = candidate.model_copy(update={"data_snapshot": "other data"})
    before = len(world.store.measurements("toy/training/s1", "search"))
    claim(training, other)
    assert len(world.store.measurements("toy/training/s1", "search")) == before


@pytest.mark.parametrize(
    "params", [{"search_trials": 0}, {"hyperparameters": FIXED | {"learning_rate": 0.03}}]
)
def test_without_a_search_the_settings_are_taken_as_they_are_and_it_says_so(
    world: ToyWorld, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"none-{len(params['hyperparameters']) if 'hyperparameters' in params else 0}"
    activity = searching(world, run, **params)
    search.main(activity)
    assert "nothing was searched: the settings are taken as they are" in capsys.readouterr().out
    settings = found(activity)
    assert settings is not None
    assert {name: settings[name] for name in FIXED} == FIXED
    page = world.artifacts.read(world.store.reports(activity.promotion.id)[0].path).decode()
    assert "No search: " in page


def test_a_wrong_budget_and_altered_settings_are_one_sentence(world: ToyWorld, searched: Any) -> None:
    with pytest.raises(SevenfoldError, match="cannot be -3: 0 is no search"):
        search.main(searching(world, "s-bad", search_trials=-3))
    fresh = searching(world, "s-altered", search_trials=0)
    search.main(fresh)
    path = next(r.path for r in world.store.reports(fresh.promotion.id) if r.path.endswith("settings.json"))
    (world.folder / "home" / "artifacts" / path).write_text('{"epochs": 900}')
    with pytest.raises(SevenfoldError, match=r"settings\.json was altered since search wrote it: run search"):
        found(fresh)


def test_a_search_whose_log_is_down_is_tried_again_and_goes_on(world: ToyWorld) -> None:
    activity = searching(world, "s-down")
    activity.settings = world.settings.model_copy(update={"mlflow_url": "http://127.0.0.1:9"})
    with pytest.raises(TrackingUnavailable) as error:
        search.main(activity)
    assert error.value.retry


def test_readings_that_were_altered_are_refused(world: ToyWorld, searched: Any) -> None:
    of = windows(world.spec, AS_OF)
    digest = snapshot(world.spec, world.settings.data).digest(*of.training, of.as_of)
    activity = world.activity("train", "training", "s-readings", hyperparameters=FIXED)
    early = Beforehand(activity, digest)
    early.measure("trials", 3, unit="trials", n=3)
    early.keep()
    path = world.store.reports(activity.promotion.id)[-1].path
    file = world.folder / "home" / "artifacts" / path
    file.write_text(file.read_text().replace("3", "4"))
    candidate = world.activity("train", "training", "s1").candidate
    with pytest.raises(SevenfoldError, match=r"beforehand\.json was altered since train wrote it"):
        claim(activity, candidate)
