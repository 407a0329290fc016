"""resources: what did training use, what did it wait for, and what should be changed?

It reads the series that were logged while the training ran.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sevenfold.activity import Activity, run
from sevenfold.errors import SevenfoldError
from sevenfold.reports import page, plots
from sevenfold.training import tracking
from sevenfold.training.bottleneck import Bottleneck, Used, bottleneck
from sevenfold.training.monitor import CPU, GPU_MEMORY, GPU_USE, MEMORY, ROWS, WAITING
from sevenfold.training.tracking import Reading

PREFIXES = ("system/", "throughput/")
MIB = 2**20
Series = dict[str, list[Reading]]


def main(activity: Activity) -> None:
    """Measures the use of what the pod was given, and names the bottleneck."""
    candidate = activity.candidate
    if candidate.mlflow_run is None:
        raise SevenfoldError(f"candidate {candidate.id} names no run in MLflow: nothing was watched")
    series = tracking.series_of(activity.settings.mlflow_url, candidate.mlflow_run, PREFIXES)
    missing = [name for name in (CPU, MEMORY, ROWS, WAITING) if not series.get(name)]
    if missing:
        raise SevenfoldError(
            f"training of candidate {candidate.id} was not watched: its run lacks {', '.join(missing)}"
        )
    used = use(activity, series)
    found = bottleneck(used)
    n = len(series[MEMORY])
    activity.measure("memory_share", used.memory, unit="ratio", n=n)
    activity.measure("cores_used", used.cores, unit="cores", n=n)
    activity.measure("waiting_for_rows", used.waiting, unit="ratio", n=len(series[WAITING]))
    activity.measure("rows_per_second", _mean(series[ROWS]), unit="rows/s", n=len(series[ROWS]))
    if used.gpu is not None:
        activity.measure("gpu_use", used.gpu / 100, unit="ratio", n=n)
    activity.progress(f"the bottleneck is {found.name}: {found.because}; {found.change}")
    report(activity, series, used, found)


def use(activity: Activity, series: Series) -> Used:
    """What was used of what the pod was given."""
    given = activity.spec.resources_of("training", "train")
    gpus = [number for number in range(64) if series.get(GPU_USE.format(number))]
    return Used(
        cores=_mean(series[CPU]),
        cores_given=given.cpus,
        memory=_highest(series[MEMORY]) * MIB / given.memory_bytes,
        waiting=_mean(series[WAITING]),
        gpu=float(np.mean([_mean(series[GPU_USE.format(i)]) for i in gpus])) if gpus else None,
        gpu_memory=max((_highest(series[GPU_MEMORY.format(i)]) / 100 for i in gpus), default=None),
    )


def report(activity: Activity, series: Series, used: Used, found: Bottleneck) -> None:
    """A page with the bottleneck and a plot of each kind of series."""
    given = activity.spec.resources_of("training", "train")
    began = min(one.at for readings in series.values() for one in readings)
    gpus = {name: name for name in sorted(series) if "gpu" in name}
    drawn: list[tuple[str, str, dict[str, str], dict[str, float]]] = [
        ("cores in use", "cores", {CPU: "cores"}, {"given": given.cpus}),
        ("memory in use", "MiB", {MEMORY: "memory"}, {"given": given.memory_bytes / MIB}),
        ("throughput", "rows a second", {ROWS: "rows a second"}, {}),
        ("waiting for rows", "share of the time", {WAITING: "waiting"}, {}),
    ]
    if gpus:
        drawn.append(("GPUs", "percent", gpus, {}))
    images = []
    with tempfile.TemporaryDirectory() as folder:
        for title, unit, names, limits in drawn:
            path = Path(folder) / f"{title.replace(' ', '_')}.png"
            images.append(page.image(draw(path, title, unit, names, limits, series, began), title))
    content = page.page(
        f"{activity.spec.title}: what training used",
        page.text(f"The bottleneck is {found.name}: {found.because}.", f"To change it: {found.change}."),
        page.table(
            ["", "used", "given"],
            [
                ["cores, mean", used.cores, used.cores_given],
                ["memory, highest", f"{used.memory * given.memory_bytes / MIB:,.0f} MiB", given.memory],
                ["time waiting for rows", f"{used.waiting:.0%}", ""],
                ["rows a second, mean", f"{_mean(series[ROWS]):,.0f}", ""],
                ["GPUs busy", "no GPU" if used.gpu is None else f"{used.gpu:.0f} %", str(given.gpu)],
            ],
        ),
        *images,
    )
    activity.report("resources.html", content, "What training used")


def draw(
    path: Path,
    title: str,
    unit: str,
    names: dict[str, str],
    limits: dict[str, float],
    series: Series,
    began: float,
) -> Path:
    """One plot over the seconds since the first reading."""
    first = series[next(iter(names))]
    lines = {
        label: ([one.value for one in series[name]][: len(first)], None, None)
        for name, label in names.items()
    }
    return plots.series(path, [one.at - began for one in first], lines, title, unit, limits=limits)


def _mean(readings: Sequence[Reading]) -> float:
    return float(np.mean([one.value for one in readings]))


def _highest(readings: Sequence[Reading]) -> float:
    return max(one.value for one in readings)


if __name__ == "__main__":
    run(main)
