"""A small training for drills: a candidate's own network and settings on a few thousand of its rows."""

from __future__ import annotations

import io
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sevenfold.data.snapshot import Snapshot
from sevenfold.data.tabular import Encoder
from sevenfold.data.windows import Windows
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec
from sevenfold.training.checkpoint import read
from sevenfold.training.examples import Examples
from sevenfold.training.job import Job
from sevenfold.training.launch import worker_command, worker_environment
from sevenfold.training.learning import settings_for
from sevenfold.training.parts import deal

ROWS, STEPS = 8_000, 120
"""About so many rows, the newest of the training window, for as many epochs as make so many steps."""
CHECKPOINT_STEPS = 2
POLL_S, START_S = 0.003, 300.0


class DrillFailed(SevenfoldError):
    """The drill itself did not work, so it says nothing about training."""

    retry = True


def drill_job(
    spec: ModelSpec, data: Snapshot, of: Windows, hyperparameters: Mapping[str, Any], folder: Path
) -> Job:
    """The training as files in `folder`, with a checkpoint every other step."""
    begins, ends = of.fitting
    days = (ends - begins).days or 1
    wanted = -(-days * ROWS // max(1, data.count(begins, ends)))
    fitting = data.labelled(max(begins, ends - timedelta(days=wanted)), ends, of.as_of, spec.columns)
    stopping = data.labelled(*of.stopping, of.as_of, spec.columns)
    encoder = Encoder.fit(fitting, spec.name, spec.numeric, spec.categorical, spec.task)
    deal([Examples.of(fitting, encoder)], folder / "training")
    deal([Examples.of(stopping, encoder)], folder / "stopping")
    settings = settings_for(fitting.num_rows, hyperparameters, seed=0)
    epochs = -(-STEPS // -(-fitting.num_rows // settings.batch_size))
    return Job(
        folder=folder,
        model=spec.name,
        models=str(spec.folder.parent),
        cardinalities=encoder.cardinalities,
        hyperparameters=dict(hyperparameters),
        settings=replace(settings, epochs=epochs, patience=epochs, checkpoint_steps=CHECKPOINT_STEPS),
        checkpoint=str(folder / "checkpoint.pt"),
    ).write()


def kill_at(job: Job, step: int) -> int:
    """Trains in a process of its own and ends that with SIGKILL once it is past `step`; the step it had kept.

    Raises:
        DrillFailed: it was at its end before it could be killed, or never got that far.
    """
    Path(job.checkpoint).unlink(missing_ok=True)
    with subprocess.Popen(
        worker_command(job),
        env=worker_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        until = time.monotonic() + START_S
        while step_of(job) < step and process.poll() is None and time.monotonic() < until:
            time.sleep(POLL_S)
        process.kill()
        said = (process.stdout.read() if process.stdout else "").strip().splitlines()
    if process.returncode != -signal.SIGKILL:
        raise DrillFailed(
            f"the training that was to be killed at step {step} had ended by itself with exit code "
            f"{process.returncode}: {said[-1] if said else 'it wrote nothing'}"
        )
    reached = step_of(job)
    if reached >= steps_of(job):
        raise DrillFailed(f"the training was at its end, step {reached}, before it could be killed")
    return reached


def steps_of(job: Job) -> int:
    """How many steps the job has in all."""
    return job.settings.epochs * -(-sum(job.training.rows) // job.settings.batch_size)


def step_of(job: Job) -> int:
    """The step of the job's checkpoint, 0 if there is none."""
    import torch

    content = read(Path(job.checkpoint))
    return int(torch.load(io.BytesIO(content), weights_only=True)["step"]) if content else 0
