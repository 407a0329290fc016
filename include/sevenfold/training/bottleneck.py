"""What keeps a training from being faster, by what it used, and what to change."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_NEARLY_FULL = 0.85
WAITING_TOO_LONG = 0.25
GPU_IDLE = 60.0
"""Percent of use below which a GPU waits for work more than it does any."""
CORES_IDLE = 0.6
"""Share of its cores below which a pod has been given more than it uses."""


@dataclass(frozen=True)
class Used:
    """What a training used, on average or at its highest, and what it might have used."""

    cores: float
    cores_given: float
    memory: float
    """Highest share of the memory that the pod was given."""
    waiting: float
    """Share of the time that the loop waited for its rows."""
    gpu: float | None = None
    """Mean percent that the GPUs were busy; None where there is none."""
    gpu_memory: float | None = None
    """Highest share of a GPU's memory."""


@dataclass(frozen=True)
class Bottleneck:
    """What training waits for: data, compute or memory."""

    name: str
    because: str
    change: str


def bottleneck(used: Used) -> Bottleneck:
    """The one that is worth a change first: what may break, then what waits, then what works."""
    if used.memory >= MEMORY_NEARLY_FULL:
        return Bottleneck(
            "memory",
            f"at its highest {used.memory:.0%} of the pod's memory was taken",
            "raise memory in resources.training.train, or set chunk_rows so that fewer rows are in memory",
        )
    if used.gpu_memory is not None and used.gpu_memory >= MEMORY_NEARLY_FULL:
        return Bottleneck(
            "memory",
            f"at its highest {used.gpu_memory:.0%} of a GPU's memory was taken",
            "halve batch_size, or set precision to bfloat16",
        )
    if used.waiting >= WAITING_TOO_LONG:
        return Bottleneck(
            "data",
            f"{used.waiting:.0%} of the time the loop waited for its rows",
            "raise memory in resources.training.train until all rows fit, or put the data on a faster disk",
        )
    if used.gpu is not None and used.gpu < GPU_IDLE:
        return Bottleneck(
            "compute",
            f"the GPU was busy only {used.gpu:.0f} % of the time, though rows were there: steps are small",
            "double batch_size, or set compile to true; a smaller GPU would do as well",
        )
    if used.gpu is not None:
        return Bottleneck(
            "compute",
            f"the GPU was busy {used.gpu:.0f} % of the time",
            "set precision to bfloat16, or raise gpu in resources.training.train",
        )
    if used.cores < CORES_IDLE * used.cores_given and used.cores_given <= 1:
        return Bottleneck(
            "compute",
            f"only {used.cores:.1f} of {used.cores_given:g} cores were had, though rows were there",
            "nothing in model.yaml: see what else keeps this node busy, or how long MLflow takes to answer",
        )
    if used.cores < CORES_IDLE * used.cores_given:
        return Bottleneck(
            "compute",
            f"{used.cores:.1f} of {used.cores_given:g} cores were used: one process does one thing at a time",
            "raise processes in resources.training.train, or ask for fewer cores",
        )
    return Bottleneck(
        "compute",
        f"{used.cores:.1f} of {used.cores_given:g} cores were busy and the loop waited for nothing else",
        "raise cpu and processes in resources.training.train, or ask for a GPU",
    )
