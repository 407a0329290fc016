"""Several processes train as one does; killed together and started again they end where they would have."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.sevenfold.training.test_training import SETTINGS
from tests.sevenfold.training.training_job import ENVIRONMENT, job_in, killed, state_of, weights, worker

from sevenfold.model.spec import Resources
from sevenfold.training import launch
from sevenfold.training.launch import CannotLaunch, Launch, TrainingFailed
from sevenfold.training.processes import ALONE, Processes
from sevenfold.training.record import Epoch, Progress

WITHOUT_CHANCE, WITH_DROPOUT = 1e-4, 0.02
"""How far the stopping loss of two processes may be from that of one, in nats. Without dropout only the order
of the sums differs; with it every process draws its own."""
MANY_STEPS = replace(SETTINGS, epochs=8, checkpoint_steps=1)


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training by two processes that nobody disturbed, and what it told."""
    job = job_in(tmp_path_factory.mktemp("pair"), MANY_STEPS)
    told: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        network, fitted = Launch(processes=2).run(job, told.append, told.append) or (None, None)
    return {"network": network, "fitted": fitted, "told": told}


def test_two_processes_end_with_the_metrics_of_one(tmp_path: Path, pair: dict[str, Any]) -> None:
    _, alone = job_in(tmp_path, MANY_STEPS).run()
    both = pair["fitted"]
    assert both.best.stopping_loss == pytest.approx(alone.best.stopping_loss, abs=WITH_DROPOUT)
    assert both.history[0].training_loss == pytest.approx(alone.history[0].training_loss, abs=WITH_DROPOUT)
    assert [epoch for epoch in pair["told"] if isinstance(epoch, Epoch)] == list(both.history)
    progress = [told for told in pair["told"] if isinstance(told, Progress)]
    assert progress[-1].step == progress[-1].steps == 64
    assert both.resumed_at == 0


def test_two_processes_killed_together_go_on_to_the_same_bits(tmp_path: Path, pair: dict[str, Any]) -> None:
    job = job_in(tmp_path, MANY_STEPS)
    step = random.randrange(2, 50)
    reached = killed(job, Launch(processes=2).command(job.folder), step)
    assert step <= reached < 64, "it has to die on the way"
    network, fitted = Launch(processes=2).run(job) or (None, None)
    assert fitted is not None
    assert fitted.resumed_at == reached
    assert weights(network) == weights(pair["network"])


@pytest.mark.parametrize("parts", [1, 3], ids=["in memory", "streamed"])
def test_one_process_killed_anywhere_goes_on_to_the_same_bits(tmp_path: Path, parts: int) -> None:
    whole, _ = job_in(tmp_path / "whole", MANY_STEPS, parts=parts).run()
    job = job_in(tmp_path / "cut", MANY_STEPS, parts=parts)
    step = random.randrange(2, 50)
    reached = killed(job, worker(job), step)
    assert step <= reached < 64
    network, fitted = job.run()
    assert fitted.resumed_at == reached
    assert weights(network) == weights(whole)


def test_two_nodes_meet_and_end_with_the_metrics_of_one_process(tmp_path: Path) -> None:
    """Two pods of an Indexed Job, here on one machine; without dropout and streamed from three parts."""
    import torch

    by_one = job_in(tmp_path / "alone", parts=3, dropout=0.0)
    _, alone = by_one.run()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = [Launch(1, 2, node, "127.0.0.1", port) for node in (0, 1)]
    jobs = [job_in(tmp_path / str(node), parts=3, dropout=0.0) for node in (0, 1)]
    second = subprocess.Popen(nodes[1].command(jobs[1].folder), env=ENVIRONMENT)
    try:
        _, fitted = nodes[0].run(jobs[0]) or (None, None)
        assert second.wait(60) == 0
    finally:
        second.kill()
    assert fitted is not None
    for mine, theirs in zip(fitted.history, alone.history, strict=True):
        assert mine.stopping_loss == pytest.approx(theirs.stopping_loss, abs=WITHOUT_CHANCE)
        assert mine.training_loss == pytest.approx(theirs.training_loss, abs=WITHOUT_CHANCE)
    assert not Path(jobs[1].checkpoint).exists(), "the first node writes, nobody else"
    # AdamW does not mind gradients of another size, so the metrics could not tell that they are
    moments = [state_of(job)["optimizer"]["state"] for job in (jobs[0], by_one)]
    for number, mine in moments[0].items():
        assert torch.allclose(mine["exp_avg"], moments[1][number]["exp_avg"], rtol=0.05, atol=1e-4)


def test_an_error_in_a_process_is_the_sentence_of_the_training(tmp_path: Path) -> None:
    job = job_in(tmp_path, replace(SETTINGS, learning_rate=1e35))
    with pytest.raises(TrainingFailed, match=r"the loss became (nan|inf) in epoch 1") as error:
        launch.follow(worker(job), ENVIRONMENT, lambda epoch: None, lambda progress: None)
    assert not error.value.retry
    assert not Path(job.checkpoint).exists()


def test_a_process_that_dies_without_a_word_is_an_error_too() -> None:
    dies = [sys.executable, "-c", "import os; print('{no json'); os.kill(os.getpid(), 9)"]
    with pytest.raises(TrainingFailed, match="ended with exit code -9") as error:
        launch.follow(dies, ENVIRONMENT, lambda epoch: None, lambda progress: None)
    assert error.value.retry


IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
INDEXED = IN_A_POD | {"JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": "train-0.train"}
OPERATOR = IN_A_POD | {"PET_NODE_RANK": "2", "PET_MASTER_ADDR": "head", "PET_MASTER_PORT": "1234"}


@pytest.mark.parametrize(
    ("resources", "gpus", "environment", "expected"),
    [
        (Resources(), 0, {}, Launch()),
        (Resources(), 8, {}, Launch()),
        (Resources(gpu=1), 1, IN_A_POD, Launch()),
        (Resources(gpu=4), 4, IN_A_POD, Launch(4)),
        (Resources(gpu=4), 0, {}, Launch()),
        (Resources(gpu=4), 2, {}, Launch(2)),
        (Resources(processes=3), 0, {}, Launch(3)),
        (Resources(nodes=2, processes=2), 0, {}, Launch(4)),
        (Resources(nodes=2, gpu=8), 8, INDEXED, Launch(8, 2, 1, "train-0.train", "29400")),
        (Resources(nodes=3), 0, OPERATOR, Launch(1, 3, 2, "head", "1234")),
    ],
)
def test_as_many_processes_as_the_resources_say(
    resources: Resources, gpus: int, environment: dict[str, str], expected: Launch
) -> None:
    assert Launch.of(resources, gpus, environment) == expected


def test_a_pod_that_lacks_what_it_was_promised_is_refused() -> None:
    with pytest.raises(CannotLaunch, match="was given 2 GPUs, but torch sees 0"):
        Launch.of(Resources(gpu=2), 0, IN_A_POD)
    with pytest.raises(CannotLaunch, match=r"which one it is \(JOB_COMPLETION_INDEX\)"):
        Launch.of(Resources(nodes=2), 0, IN_A_POD)


def test_the_command_is_torchruns() -> None:
    said = Launch(8, 2, 1, "train-0.train", "29400").command(Path("/job"))[1:]
    assert said == [
        "-m",
        "sevenfold.training.torchrun",
        "--nproc-per-node=8",
        "--nnodes=2",
        "--node-rank=1",
        "--master-addr=train-0.train",
        "--master-port=29400",
        "-m",
        "sevenfold.training.worker",
        "/job",
    ]
    assert "--standalone" in Launch(2).command(Path("/job"))


def test_one_process_starts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "follow", lambda *arguments: pytest.fail("started a process"))
    _, fitted = Launch().run(job_in(tmp_path)) or (None, None)
    assert fitted is not None
    assert len(fitted.history) == 4


def test_gradients_are_averaged_by_torch_on_the_processs_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice only; what a GPU makes of it, only a machine with one can show."""
    import torch.nn.parallel

    made = SimpleNamespace()
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda net, ids: (made, net, ids))
    network: Any = object()
    assert ALONE.wrap(network, "cpu") is network
    assert Processes(3, 4, 1).wrap(network, "cuda:1") == (made, network, [1])
    assert Processes(3, 4, 1).wrap(network, "cpu") == (made, network, None)
