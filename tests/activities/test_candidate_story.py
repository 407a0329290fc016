"""The toy's way from an idea to a tested candidate: every activity on the evidence the one before it left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests import toy
from tests.activities.toy_world import AS_OF, ToyWorld

from activities.development import select, version
from activities.testing import benchmark as testing_benchmark
from activities.testing import validate_data, validate_model
from activities.training import benchmark, train
from sevenfold.candidates import lineage
from sevenfold.candidates.artefact import Scorer
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import rehearsal, windows
from sevenfold.errors import SevenfoldError
from sevenfold.model.suite import run_suite
from sevenfold.training import CannotLearn, tracking


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyWorld]:
    folder = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file keeps its artifacts beside it
        patch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
        yield ToyWorld(folder)


@pytest.fixture(scope="module")
def idea(world: ToyWorld) -> Candidate:
    """What development made, and its gate let pass."""
    activity = world.activity("select", "development", "d1", sample_rows=800, hyperparameters={"epochs": 4})
    select.main(activity)
    version.main(world.activity("version", "development", "d1"))
    world.store.end_promotion(activity.promotion.id, "promoted", "Successful", "good")
    return activity.candidate


@pytest.fixture(scope="module")
def candidate(world: ToyWorld, idea: Candidate) -> Candidate:
    """What training made of it."""
    activity = world.activity("train", "training", "t1", idea.id, hyperparameters={"learning_rate": 0.02})
    train.main(activity)
    return activity.candidate


def test_development_compares_four_algorithms_inside_the_training_window(
    world: ToyWorld, idea: Candidate
) -> None:
    activity = world.activity("select", "development", "d1")
    found = world.measured(activity)
    baselines = ("constant", "logistic_regression", "gradient_boosting")
    assert set(found) == {f"log_loss_gain_over_{name}" for name in baselines}
    over_constant = found["log_loss_gain_over_constant"]
    assert over_constant.low > 0.05
    window = rehearsal(world.spec, AS_OF)
    assert (over_constant.window_start, over_constant.window_end) == window.test
    assert over_constant.window_end < windows(world.spec, AS_OF).test[0]
    assert idea.hyperparameters == world.spec.defaults | {"epochs": 4}
    assert idea.train_window == window.training
    (report,) = world.store.reports(activity.promotion.id)[:1]
    page = world.artifacts.read(report.path).decode()
    assert all(words in page for words in ("gradient boosting", "logistic regression", "constant"))


def test_development_is_in_mlflow_with_a_run_an_algorithm(world: ToyWorld, idea: Candidate) -> None:
    import mlflow

    client = mlflow.MlflowClient(world.settings.mlflow_url)
    parent = client.get_run(str(idea.mlflow_run))
    assert parent.data.params["sample_rows"] == "800"
    dataset = parent.inputs.dataset_inputs[0]
    assert {tag.key: tag.value for tag in dataset.tags}["sha256"] == idea.data_snapshot
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert {run.data.params["algorithm"] for run in children} == {
        "constant",
        "logistic_regression",
        "gradient_boosting",
        "network",
    }


def test_a_clean_version_has_no_violations(world: ToyWorld, idea: Candidate) -> None:
    assert world.measured(world.activity("version", "development", "d1"))["dirty_tree"].value == 0


def test_a_dirty_tree_or_changed_code_is_counted(
    world: ToyWorld, idea: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty = lineage.Code("d" * 40, ("include/a.py", "dags/b.py"))
    monkeypatch.setattr(lineage, "code", lambda: dirty)
    activity = world.activity("version", "development", "d-dirty")
    world.store.set_promotion_candidate(activity.promotion.id, idea.id)
    version.main(activity)
    assert world.measured(activity)["dirty_tree"].value == 3
    page = world.artifacts.read(world.store.reports(activity.promotion.id)[0].path).decode()
    assert "include/a.py" in page


def test_training_learns_from_everything_and_proves_its_files(
    world: ToyWorld, idea: Candidate, candidate: Candidate
) -> None:
    found = world.measured(world.activity("train", "training", "t1"))
    assert found["log_loss"].high < 0.66
    assert found["checkpoint_verified"].value == 0
    assert 0 <= found["onnx_difference"].value < 1e-6
    assert found["log_loss"].window_end == windows(world.spec, AS_OF).test[1]
    assert candidate.parent == idea.id
    assert candidate.hyperparameters["epochs"] == 4
    assert candidate.hyperparameters["learning_rate"] == 0.02
    assert candidate.train_window == windows(world.spec, AS_OF).training
    data = snapshot(world.spec, world.settings.data)
    assert candidate.data_snapshot == data.digest(*candidate.train_window, AS_OF)
    assert list((world.settings.data / "checkpoints").iterdir()) == []


def test_the_registered_version_is_the_candidate(world: ToyWorld, candidate: Candidate) -> None:
    import mlflow

    number = tracking.registered_version(world.settings.mlflow_url, "toy", candidate.id)
    client = mlflow.MlflowClient(world.settings.mlflow_url)
    version = client.get_model_version("toy", str(number))
    assert version.tags["sevenfold.candidate"] == candidate.id
    mlflow.set_tracking_uri(world.settings.mlflow_url)
    model = mlflow.pyfunc.load_model(f"models:/toy/{number}")
    numeric, categorical = np.zeros((3, 2), np.float32), np.ones((3, 1), np.int64)
    answer = model.predict({"numeric": numeric, "categorical": categorical})
    expected = Scorer(world.artifacts.get(candidate.model_digest)).run(numeric, categorical)
    np.testing.assert_array_equal(answer["probability"], expected)
    run = client.get_run(str(candidate.mlflow_run))
    assert "stopping_loss" in run.data.metrics
    assert "This version" in mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/model_card.md")


def test_a_retry_of_training_changes_nothing(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("train", "training", "t1")
    train.main(activity)
    assert activity.candidate.id == candidate.id
    assert tracking.registered_version(world.settings.mlflow_url, "toy", candidate.id) == 1
    contents = {(m.metric, m.value, m.low) for m in world.store.measurements(activity.promotion.id, "train")}
    assert len(contents) == 6, "readings of a retry must say the same"


def test_training_takes_the_newest_promoted_idea_or_says_what_is_missing(
    world: ToyWorld, idea: Candidate, tmp_path: Path
) -> None:
    alone = world.activity("train", "training", "t-alone")
    assert train.idea(alone) == idea
    assert train.chosen(alone, idea)["epochs"] == 4
    fresh = ToyWorld(tmp_path)
    activity = fresh.activity("train", "training", "t1")
    with pytest.raises(SevenfoldError, match=r"no candidate of toy .* run toy\.development first"):
        train.chosen(activity, train.idea(activity))
    unknown = world.activity("train", "training", "t-unknown", hyperparameters={"speed": 3})
    with pytest.raises(SevenfoldError, match="toy has no hyperparameter 'speed'"):
        train.chosen(unknown, idea)


def test_a_failed_training_keeps_nothing(world: ToyWorld, idea: Candidate) -> None:
    before = world.store.candidates("toy")
    activity = world.activity("train", "training", "t-nan", idea.id, hyperparameters={"learning_rate": 1e35})
    with pytest.raises(CannotLearn, match="the loss became"):
        train.main(activity)
    assert world.store.candidates("toy") == before
    assert world.store.promotion(activity.promotion.id).candidate == idea.id
    assert world.store.measurements(activity.promotion.id) == []


def test_a_tracking_server_that_is_down_is_an_error_that_a_retry_may_heal(
    world: ToyWorld, idea: Candidate
) -> None:
    activity = world.activity("train", "training", "t-down", idea.id)
    activity.settings = world.settings.model_copy(update={"mlflow_url": "http://127.0.0.1:9"})
    with pytest.raises(tracking.TrackingUnavailable, match=r"MLflow at http://127\.0\.0\.1:9") as error:
        train.main(activity)
    assert error.value.retry


def test_the_benchmark_compares_with_every_baseline(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("benchmark", "training", "t1")
    benchmark.main(activity)
    found = world.measured(activity)
    assert set(found) == {
        "log_loss_gain_over_constant",
        "log_loss_gain_over_logistic_regression",
        "log_loss_gain_over_gradient_boosting",
    }
    assert found["log_loss_gain_over_constant"].low > 0
    regression = found["log_loss_gain_over_logistic_regression"]
    assert regression.low < regression.value < regression.high < 0.05
    page = world.artifacts.read(world.store.reports(activity.promotion.id)[-1].path).decode()
    assert "On log loss the network beats constant" in page
    assert "On auc the network beats constant" in page
    assert "it does not beat" in page


def test_testing_compares_with_the_champion_on_the_same_rows(
    world: ToyWorld, idea: Candidate, candidate: Candidate
) -> None:
    alone = world.activity("benchmark", "testing", "x-first", candidate.id)
    testing_benchmark.main(alone)
    assert {m.baseline for m in world.store.measurements(alone.promotion.id)} == {"none"}
    against = world.activity("benchmark", "testing", "x-second", candidate.id, champion=idea)
    testing_benchmark.main(against)
    paired = {m.metric: m for m in world.store.measurements(against.promotion.id) if m.baseline != "none"}
    assert set(paired) == {"log_loss", "auc"}
    loss = paired["log_loss"]
    assert loss.baseline_candidate == idea.id
    assert loss.counts is not None
    assert loss.counts["mean_diff"] == pytest.approx(loss.value - loss.baseline_value)
    assert loss.counts["se"] > 0
    assert loss.counts["clusters"] == 8
    assert loss.n == 8 * toy.ROWS_A_DAY * 9 // 10


def test_testing_compares_with_the_anchor_too(world: ToyWorld, idea: Candidate, candidate: Candidate) -> None:
    """The anchor is held fixed while champions change: here it is another one than the champion."""
    activity = world.activity("benchmark", "testing", "x-anchor", candidate.id, champion=candidate)
    activity.__dict__["anchor"] = idea
    testing_benchmark.main(activity)
    held = {(m.metric, m.baseline): m for m in world.store.measurements(activity.promotion.id)}
    assert {key for key in held if key[1] == "anchor"} == {("log_loss", "anchor"), ("auc", "anchor")}
    against = held["log_loss", "anchor"]
    assert against.baseline_candidate == idea.id
    assert against.counts is not None
    assert against.counts["mean_diff"] == pytest.approx(against.value - against.baseline_value)
    assert held["log_loss", "champion"].baseline_candidate == candidate.id


def test_labels_from_the_future_of_the_promotion_are_not_used(world: ToyWorld, candidate: Candidate) -> None:
    """As of the moment that the last test day ends, its last labels are not known yet."""
    as_of = windows(world.spec, AS_OF).test[1] + timedelta(days=world.spec.windows.sealed_days)
    assert as_of == AS_OF
    noon = datetime(2020, 2, 29, 16, 30, tzinfo=UTC)
    activity = world.activity("benchmark", "testing", "x-noon", candidate.id, as_of=noon)
    testing_benchmark.main(activity)
    assert world.measured(activity)["log_loss"].window_end == noon - timedelta(days=4)


def test_the_data_are_validated_and_failing_rows_are_shown(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("validate_data", "testing", "x1", candidate.id)
    validate_data.main(activity)
    found = world.measured(activity)
    assert found["failed_critical_expectations"].value == 0
    assert found["failed_critical_expectations"].n == 3
    page, result = (
        world.artifacts.read(r.path).decode() for r in world.store.reports(activity.promotion.id)[-2:]
    )
    assert "http" not in page, "it is read offline"
    assert "warning: width" in page
    assert "toy-" in page
    assert "freshness nothing is expected" in " ".join(re.sub("<[^>]+>", " ", page).split())
    assert json.loads(result)["statistics"]["evaluated_expectations"] == 3
    told = {m.slice: m.value for m in world.store.measurements(activity.promotion.id) if m.slice}
    assert max(told, key=lambda column: told[column]) == "height"
    assert 0.3 < told["height"] < 0.8


def test_the_models_own_suite_decides(world: ToyWorld, candidate: Candidate) -> None:
    toy.suite_in(world.spec)
    activity = world.activity("validate_model", "testing", "x1", candidate.id)
    validate_model.main(activity)
    found = world.measured(activity)
    assert (found["failed_tests"].value, found["failed_tests"].n) == (0, 2)
    assert found["calibration_ratio"].low < 1.2
    toy.suite_in(world.spec, test_more="def test_never():\n    assert 1 == 2, 'it is not so'\n")
    failing = world.activity("validate_model", "testing", "x-failing", candidate.id)
    validate_model.main(failing)
    assert world.measured(failing)["failed_tests"].value == 1
    junit, page = world.store.reports(failing.promotion.id)
    assert b"it is not so" in world.artifacts.read(junit.path)
    assert b"it is not so" in world.artifacts.read(page.path)


def test_a_suite_that_does_not_run_or_is_not_there_is_no_pass(
    world: ToyWorld, candidate: Candidate, tmp_path: Path
) -> None:
    model = world.artifacts.get(candidate.model_digest)
    with pytest.raises(SevenfoldError, match="holds no tests"):
        run_suite(tmp_path, model, AS_OF.isoformat(), tmp_path)
    (tmp_path / "conftest.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    with pytest.raises(SevenfoldError, match="did not run"):
        run_suite(tmp_path, model, AS_OF.isoformat(), tmp_path)
    (tmp_path / "conftest.py").write_text(toy.SUITE["conftest.py"])
    (tmp_path / "test_a.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(SevenfoldError, match="did not run"):
        run_suite(tmp_path, model, AS_OF.isoformat(), tmp_path)
