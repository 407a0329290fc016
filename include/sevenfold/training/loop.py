"""The training loop: rows in, the network of the best epoch out."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sevenfold.training.batches import Batches, Shuffle, identity
from sevenfold.training.checkpoint import Run
from sevenfold.training.examples import Examples, check, refuse_hopeless_labels
from sevenfold.training.hardware import Hardware
from sevenfold.training.loss import class_weights, training_losses
from sevenfold.training.meter import Meter
from sevenfold.training.parts import Parts, batches_of
from sevenfold.training.processes import ALONE, Processes
from sevenfold.training.record import Epoch, Fitted, Progress
from sevenfold.training.schedule import optimiser
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import nn

SCORING_BATCH = 32_768


def fit(
    network: nn.Module,
    rows: Examples | Parts,
    stopping: Examples,
    settings: TrainingSettings,
    checkpoint: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    processes: Processes = ALONE,
) -> Fitted:
    """Trains `network` in place and leaves it with the weights of the epoch that `stopping` liked best.

    `checkpoint` is where an interrupted run continues; one that other rows, settings or another network left
    is ignored.

    Raises:
        CannotLearn: no rows, labels that are all equal or none of the task, or a loss that is not a number.
        BadCheckpoint: the checkpoint file is damaged.
        NotWritten: there is no room for a checkpoint.
    """
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    task, hardware = rows.task, Hardware.of(settings, processes)
    batches = batches_of(rows, Shuffle(settings, processes, hardware.device))
    check(stopping, "stopping")
    refuse_hopeless_labels(task, batches.classes)
    model = processes.wrap(hardware.prepare(network), hardware.device)
    steps = settings.epochs * batches.steps
    optimizer, scheduler = optimiser(network, settings, steps)
    scaler, weights = hardware.scaler(), class_weights(task, batches.classes, settings, hardware.device)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    whose = _identity(network, batches, stopping, settings)
    run = Run(parts, checkpoint, whose, settings, processes, hardware.device)
    resumed_at, began, meter = run.resume(), time.monotonic(), Meter(steps, on_progress)

    while not run.finished:
        epoch, first = divmod(run.step, batches.steps)
        network.train()
        for batch in meter.waiting(batches.of_epoch(epoch, first)):
            torch.manual_seed(_chance(settings.seed, run.step, processes.rank))
            optimizer.zero_grad(set_to_none=True)
            with hardware.autocast():
                raw = model(batch.numeric, batch.categorical)
            loss = training_losses(task, raw.float(), batch.label, weights).sum() / batch.rows
            scaler.scale(loss * processes.count).backward()  # DistributedDataParallel divides by the count
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            run.loss += loss.detach().double() * (batch.rows / batches.rows)
            run.step += 1
            meter.count(run.step, epoch + 1, batch.rows)
            if run.step % settings.checkpoint_steps == 0 and run.step % batches.steps:
                run.save()
        training_loss = float(processes.sum(run.loss))
        stopping_loss = mean_loss(network, stopping, processes, hardware.device)
        run.end_epoch(Epoch(epoch + 1, training_loss, stopping_loss, meter.rows_per_second()))
        on_epoch(run.history[-1])
    network.load_state_dict(run.best_weights)
    network.eval().to("cpu")
    return Fitted(tuple(run.history), run.best, time.monotonic() - began, resumed_at)


def mean_loss(
    network: nn.Module, examples: Examples, processes: Processes = ALONE, device: str = "cpu"
) -> float:
    """Mean log loss of the network on `examples`; every process takes its share of the rows."""
    import torch

    network.eval()
    task, values = examples.task, examples.tensors()
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.inference_mode():
        for i in range(processes.rank * SCORING_BATCH, len(examples), processes.count * SCORING_BATCH):
            numeric, categorical, label = (value[i : i + SCORING_BATCH].to(device) for value in values)
            total += task.row_losses(network(numeric, categorical), label).sum().double()
        total = processes.sum(total)
    return float(total) / len(examples)


def _chance(seed: int, step: int, rank: int) -> int:
    """Where dropout's chance starts in a step of one process."""
    return ((rank << 56) + (seed << 32) + step) % 2**63


def _identity(network: nn.Module, batches: Batches, stopping: Examples, settings: TrainingSettings) -> str:
    """SHA-256 of all that decides the result: the settings, the rows and the network as it starts."""
    said = [json.dumps(asdict(settings), sort_keys=True), batches.identity(), identity(stopping)]
    digest = hashlib.sha256("\0".join(said).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
