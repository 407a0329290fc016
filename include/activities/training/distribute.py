"""distribute: do two processes learn what one does, and how much faster?

A drill with the candidate's network and settings on a slice of its rows: once in this process, once in two
that torchrun starts (gloo between CPUs, nccl between GPUs). Every process draws its own dropout, so the two
trainings agree within a tolerance, not to the bit.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.data.snapshot import snapshot
from sevenfold.data.windows import of_candidate
from sevenfold.reports import page
from sevenfold.training.drill import drill_job
from sevenfold.training.examples import Examples
from sevenfold.training.launch import Launch
from sevenfold.training.record import Fitted

PROCESSES = 2


def main(activity: Activity) -> None:
    """Measures how far apart the metrics end, and how well the work is shared."""
    spec, candidate = activity.spec, activity.candidate
    data, of = snapshot(spec, activity.settings.data, activity.progress), of_candidate(spec, candidate)
    with tempfile.TemporaryDirectory() as folder:
        job = drill_job(spec, data, of, candidate.hyperparameters, Path(folder) / "job")
        stopping = job.stopping.read(0)
        with activity.phase("one process"):
            alone, by_one = job.run()
        job = replace(job, checkpoint=f"{job.checkpoint}.{PROCESSES}").write()
        with activity.phase(f"{PROCESSES} processes"):
            together, by_two = Launch(processes=PROCESSES).run(job)
    one, two = (metrics(network, stopping) for network in (alone, together))
    rates = [fastest(fitted) for fitted in (by_one, by_two)]
    efficiency = rates[1] / rates[0] / PROCESSES
    for name in one:
        activity.measure(
            f"{name}_apart", abs(two[name] - one[name]), unit=units(activity)[name], n=len(stopping)
        )
    activity.measure("scaling_efficiency", efficiency, unit="ratio", n=PROCESSES)
    activity.progress(
        f"{rates[0]:,.0f} rows a second by one process, {rates[1]:,.0f} by {PROCESSES}: {efficiency:.0%} of "
        "what they could do together"
    )
    report(activity, one, two, rates, efficiency, len(stopping))


def metrics(network: Any, rows: Examples) -> dict[str, float]:
    """Log loss and the second headline metric of a network on encoded rows."""
    import torch

    numeric, categorical, _ = rows.tensors()
    with torch.inference_mode():
        prediction = rows.task.served(network.eval()(numeric, categorical)).numpy()
    label, days = rows.label.astype(np.float64), np.arange(len(rows))
    found = rows.task.headline(label, prediction, days)
    return {name: found[name].value for name in ("log_loss", rows.task.second)}


def units(activity: Activity) -> dict[str, str]:
    """Of those metrics."""
    return activity.spec.task.headline_units


def fastest(fitted: Fitted) -> float:
    """Rows a second of the best epoch: what the machine can do when nothing disturbs it."""
    return max(epoch.rows_per_second for epoch in fitted.history)


def report(
    activity: Activity,
    one: dict[str, float],
    two: dict[str, float],
    rates: list[float],
    efficiency: float,
    rows: int,
) -> None:
    """A page with both trainings side by side."""
    cells: list[list[object]] = [
        [name.replace("_", " "), one[name], two[name], abs(two[name] - one[name])] for name in one
    ]
    cells.append(["rows a second", *(f"{rate:,.0f}" for rate in rates), f"{efficiency:.0%} efficient"])
    content = page.page(
        f"{activity.spec.title}: one process and {PROCESSES}",
        page.text(
            f"The same network, settings and slice of rows, by one process and by {PROCESSES} that share "
            f"every batch. Metrics on {rows:,} stopping rows. Efficiency is the speed of {PROCESSES} over "
            f"{PROCESSES} times that of one; with steps as small as these, processes wait for each other."
        ),
        page.table(["", "one process", f"{PROCESSES} processes", "apart"], cells),
    )
    activity.report("distribute.html", content, f"One process and {PROCESSES}")


if __name__ == "__main__":
    run(main)
