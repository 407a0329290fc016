"""Training's activities around one candidate of the toy: made, drilled, audited, watched."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import toy
from tests.activities.toy_world import ToyWorld

from activities.training import checkpoint, distribute, resources, train
from sevenfold.candidates import lineage
from sevenfold.candidates.candidate import Candidate
from sevenfold.errors import SevenfoldError
from sevenfold.training import CannotLearn, monitor, tracking
from sevenfold.training.drill import DrillFailed
from sevenfold.training.launch import worker_environment

HYPERPARAMETERS = {"epochs": 3, "batch_size": 64}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyWorld]:
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file keeps its artifacts beside it
        patch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
        yield ToyWorld(folder)


def trained(world: ToyWorld, run: str, **more: Any) -> Candidate:
    """The candidate that the activity makes in one run."""
    activity = world.activity("train", "training", run, hyperparameters=HYPERPARAMETERS | more)
    train.main(activity)
    return activity.candidate


@pytest.fixture(scope="module")
def candidate(world: ToyWorld) -> Candidate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "EVERY_S", 0.05)
        return trained(world, "t1")


def changed(candidate: Candidate, **what: Any) -> Candidate:
    """Another candidate that differs in this."""
    return Candidate(**candidate.model_dump() | what)


def page(world: ToyWorld, activity: Any) -> str:
    return world.artifacts.read(world.store.reports(activity.promotion.id)[-1].path).decode()


def test_a_killed_training_is_drilled_and_everything_is_on_record(
    world: ToyWorld, candidate: Candidate
) -> None:
    activity = world.activity("checkpoint", "training", "t1")
    checkpoint.main(activity)
    found = world.measured(activity)
    assert (found["resumed_differently"].value, found["not_on_record"].value) == (0, 0)
    assert found["resumed_differently"].n > 8
    assert found["not_on_record"].n == 10
    assert "It ended on the same bits" in page(world, activity)


def test_a_training_that_goes_on_elsewhere_is_noticed(
    world: ToyWorld, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drill notices that dropout's chance begins anew instead of where it was."""
    from sevenfold.training import loop

    chance, calls = loop._chance, iter(range(10**6))
    kill = checkpoint.kill_at

    def killed(job: Any, step: int) -> int:
        reached = kill(job, step)
        monkeypatch.setattr(loop, "_chance", lambda seed, step, rank: chance(seed, next(calls), rank))
        return reached

    monkeypatch.setattr(checkpoint, "kill_at", killed)
    found = checkpoint.drill(world.activity("checkpoint", "training", "t1"), candidate)
    assert found.different


def test_a_training_that_is_over_too_soon_is_killed_in_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def kill_at(job: Any, step: int) -> int:
        tried.append(step)
        if len(tried) < 3:
            raise DrillFailed("it was at its end")
        return step

    monkeypatch.setattr(checkpoint, "kill_at", kill_at)
    monkeypatch.setattr(checkpoint, "steps_of", lambda job: 120)
    assert checkpoint.kill(SimpleNamespace()) == tried[-1]
    assert all(6 <= step <= 90 for step in tried)
    tried[:] = []
    monkeypatch.setattr(checkpoint, "ATTEMPTS", 2)
    with pytest.raises(DrillFailed):
        checkpoint.kill(SimpleNamespace())


def test_what_is_not_on_record_is_named(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("checkpoint", "training", "t1")
    other = changed(candidate, data_snapshot="f" * 64, hyperparameters={"epochs": 9})
    checks = checkpoint.audit(activity, other)
    assert [said for said, kept in checks.items() if not kept] == [
        "every hyperparameter, with its value",
        "the data, by the hash that the candidate has",
        # and, as nothing was registered of a candidate of another name:
        "a registered version that says how it came to be",
        "its signature",
        "an example of its input",
        "the model as ONNX, and no pickle",
    ]
    assert not all(checkpoint.audit(activity, changed(candidate, mlflow_run=None)).values())
    record = tracking.record_of(world.settings.mlflow_url, "toy", candidate.id, str(candidate.mlflow_run))
    assert checkpoint._is_onnx(record)
    assert not checkpoint._is_onnx(replace(record, model_files=[*record.model_files, "data/model.pkl"]))
    assert not checkpoint._epochs_are_whole(replace(record, steps={"training_loss": [1, 3]}), candidate)
    assert not checkpoint._is_watched(replace(record, steps={}))
    with pytest.raises(tracking.TrackingUnavailable, match="does not give the run none"):
        tracking.record_of(world.settings.mlflow_url, "toy", candidate.id, "none")


def test_two_processes_are_compared_with_one(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("distribute", "training", "t1")
    distribute.main(activity)
    found = world.measured(activity)
    assert found["log_loss_apart"].value < 0.03
    assert found["auc_apart"].value < 0.03
    assert found["scaling_efficiency"].value > 0
    assert "rows a second" in page(world, activity)


def test_what_training_used_is_read_from_its_run(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("resources", "training", "t1")
    resources.main(activity)
    found = world.measured(activity)
    assert 0.05 < found["memory_share"].value < 1
    assert found["cores_used"].value > 0
    assert 0 <= found["waiting_for_rows"].value < 1
    assert found["rows_per_second"].value > 0
    html = page(world, activity)
    assert re.search("The bottleneck is (data|compute|memory): ", html)
    assert html.count("<img") == 4


def test_series_follow_the_steps_while_training_runs(world: ToyWorld, candidate: Candidate) -> None:
    series = tracking.series_of(world.settings.mlflow_url, str(candidate.mlflow_run), ("system/",))
    steps = [one.step for one in series["system/memory_mib"]]
    assert steps == sorted(steps)
    assert steps[-1] > 0


def test_an_unwatched_training_is_an_error(world: ToyWorld, candidate: Candidate) -> None:
    activity = world.activity("resources", "training", "t-unwatched")
    silent = world.store.add_candidate(changed(candidate, mlflow_run=None, code_commit="e" * 40))
    world.store.set_promotion_candidate(activity.promotion.id, silent.id)
    with pytest.raises(SevenfoldError, match="names no run in MLflow"):
        resources.main(activity)


def test_rows_that_do_not_fit_are_streamed(
    world: ToyWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "parts_for", lambda *arguments: 3)
    trained(world, "t-streamed", learning_rate=0.02)
    assert "streamed in 3 parts" in capsys.readouterr().out
    found = world.measured(world.activity("train", "training", "t-streamed"))
    assert found["log_loss"].high < 0.69
    assert found["checkpoint_verified"].value == 0
    assert list((world.settings.data / "checkpoints").iterdir()) == []


def test_as_many_processes_train_as_model_yaml_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
    two = toy.MODEL_YAML + "resources:\n  training.train: {processes: 2}\n"
    world = ToyWorld(tmp_path, two)
    candidate = trained(world, "t-two")
    said = capsys.readouterr().out
    assert "by 2 processes" in said
    assert "epoch 3 of 3" in said
    record = tracking.record_of(world.settings.mlflow_url, "toy", candidate.id, str(candidate.mlflow_run))
    assert record.steps["stopping_loss"] == [1, 2, 3]
    assert record.params["processes"] == "2"
    assert world.measured(world.activity("train", "training", "t-two"))["checkpoint_verified"].value == 0


def test_the_retry_of_a_killed_training_goes_on_by_itself(
    world: ToyWorld, candidate: Candidate, capsys: pytest.CaptureFixture[str]
) -> None:
    activity = world.activity(
        "train", "training", "t-killed", hyperparameters=HYPERPARAMETERS | {"epochs": 40}
    )
    here = {
        "SEVENFOLD_HOME": str(world.settings.home),
        "SEVENFOLD_MODELS": str(world.settings.models),
        "SEVENFOLD_MLFLOW_URL": world.settings.mlflow_url,
    }
    command = [sys.executable, "-m", "activities.training.train", "--model", "toy"]
    with subprocess.Popen(
        [*command, "--environment", "training", "--run", "t-killed"],
        env=worker_environment() | here,
        stdout=subprocess.DEVNULL,
    ) as pod:
        until = time.monotonic() + 120
        while not train.checkpoint_of(activity).exists() and pod.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        pod.kill()
    assert pod.returncode == -signal.SIGKILL, "it has to die on the way"
    train.main(activity)
    assert "from a run that was killed" in capsys.readouterr().out
    made = activity.candidate
    record = tracking.record_of(world.settings.mlflow_url, "toy", made.id, str(made.mlflow_run))
    assert record.steps["stopping_loss"] == list(range(1, len(record.steps["stopping_loss"]) + 1))
    assert len(record.steps["stopping_loss"]) >= 4
    assert world.measured(activity)["checkpoint_verified"].value == 0


@pytest.mark.parametrize("index", ["1"])
def test_another_node_only_helps(
    world: ToyWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], index: str
) -> None:
    """The pod of index 1 of an Indexed Job trains with the others and leaves nothing behind."""
    from sevenfold.training.launch import Launch

    monkeypatch.setattr(train.Launch, "of", lambda *arguments: Launch(1, 2, int(index), "127.0.0.1"))
    monkeypatch.setattr(Launch, "run", lambda self, *arguments: None)
    activity = world.activity("train", "training", "t-node", hyperparameters=HYPERPARAMETERS)
    train.main(activity)
    assert "node 1 has done its part" in capsys.readouterr().out
    assert world.store.promotion(activity.promotion.id).candidate is None


def test_what_cannot_be_learned_leaves_nothing(world: ToyWorld) -> None:
    activity = world.activity(
        "train", "training", "t-nan", hyperparameters=HYPERPARAMETERS | {"learning_rate": 1e30}
    )
    with pytest.raises(CannotLearn, match="the loss became"):
        train.main(activity)
    assert not train.checkpoint_of(activity).exists()
    assert world.store.promotion(activity.promotion.id).candidate is None


def test_gpus_are_watched_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through NVML's calls only; a machine with a GPU has to show the rest."""
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=40 + handle),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=2**30, total=2**32),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    kept: list[Any] = []
    with monitor.watching(kept.extend, print):
        pass
    values = {one.name: one.value for one in kept}
    assert values["system/gpu_1_utilization_percentage"] == 41
    assert values["system/gpu_0_memory_usage_percentage"] == 25
    assert values["system/memory_mib"] > 50
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert monitor.gpus() == []


def test_readings_that_mlflow_does_not_take_are_kept_for_the_next_time() -> None:
    taken: list[Any] = []
    refuse = [True]

    def hand_on(readings: Any) -> None:
        if refuse.pop() if refuse else False:
            raise OSError("down")
        taken.extend(readings)

    said: list[str] = []
    with monitor.watching(hand_on, said.append, every=0.01, handed_on=0.02):
        time.sleep(0.3)
    assert len(taken) > 10
    assert [one.at for one in taken] == sorted(one.at for one in taken)
    assert any("could not be handed on yet: down" in line for line in said)
