"""A small training as files, for tests that train in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from tests import toy
from tests.sevenfold.training.test_training import SETTINGS, STOPPING, TRAINING, weights

from sevenfold.settings import REPOSITORY
from sevenfold.training.checkpoint import read
from sevenfold.training.examples import Examples
from sevenfold.training.job import Job
from sevenfold.training.parts import deal
from sevenfold.training.settings import TrainingSettings

PATHS = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "include")])
ENVIRONMENT = os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def job_in(
    folder: Path,
    settings: TrainingSettings = SETTINGS,
    rows: Examples = TRAINING,
    parts: int = 1,
    dropout: float = 0.2,
) -> Job:
    """The training of tests/sevenfold/training/test_training.py as a job, its checkpoint beside it."""
    spec = toy.spec_in(folder / "models")
    place = folder / "job"
    deal([rows], place / "training", parts)
    deal([STOPPING], place / "stopping")
    return Job(
        folder=place,
        model=spec.name,
        models=str(spec.folder.parent),
        cardinalities=[4, 4],
        hyperparameters={"hidden": 16, "dropout": dropout},
        settings=settings,
        checkpoint=str(folder / "checkpoint.pt"),
    ).write()


def worker(job: Job) -> list[str]:
    """The command of one process."""
    return [sys.executable, "-m", "sevenfold.training.worker", str(job.folder)]


def killed(job: Job, command: list[str], at_step: int) -> int:
    """Starts a training and ends it with SIGKILL once it is past a step; the step it had kept."""
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while step_of(job) < at_step and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, 5)
    assert not alive, "what a killed training started must not train on"
    return step_of(job)


def step_of(job: Job) -> int:
    """The step of the checkpoint, 0 if there is none."""
    state = state_of(job)
    return int(state["step"]) if state else 0


def state_of(job: Job) -> dict[str, Any]:
    """What the checkpoint holds."""
    import io

    import torch

    content = read(Path(job.checkpoint))
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True) if content else {}
    return state


__all__ = ["ENVIRONMENT", "job_in", "killed", "state_of", "step_of", "weights", "worker"]
