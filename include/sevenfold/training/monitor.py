"""Watches what training uses while it runs: CPU, memory, GPUs, rows a second, and how long it waits for rows.

A thread takes a reading every second, of this process with all that it started, and hands them on every few
seconds: to MLflow as series over the steps, and to the task's log as a line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]

from sevenfold.local import footprint
from sevenfold.training.record import Progress
from sevenfold.training.tracking import Reading

EVERY_S, HANDED_ON_S = 1.0, 5.0
CPU, MEMORY = "system/cpu_cores", "system/memory_mib"
ROWS, WAITING = "throughput/rows_per_second", "throughput/waiting_share"
GPU_USE, GPU_MEMORY = "system/gpu_{}_utilization_percentage", "system/gpu_{}_memory_usage_percentage"
MIB = 2**20


class Monitor:
    """Readings since `watching` began; `progress` is where the loop tells how it goes."""

    def __init__(self, hand_on: Callable[[Sequence[Reading]], None], say: Callable[[str], None]) -> None:
        self._hand_on, self._say = hand_on, say
        self._latest: Progress | None = None
        self._told_step = -1
        self._waiting: list[Reading] = []
        self._lock = threading.Lock()
        self._gpus = gpus()
        self._clock, self._cpu = time.monotonic(), cpu_seconds()

    def progress(self, progress: Progress) -> None:
        """What the loop tells about once a second."""
        self._latest = progress

    def read(self) -> None:
        """Takes one reading of everything."""
        now, cpu, latest = time.monotonic(), cpu_seconds(), self._latest
        values = {
            CPU: max(0.0, cpu - self._cpu) / max(now - self._clock, 1e-6),
            MEMORY: footprint.memory([os.getpid()]) / MIB,
        }
        for number, (use, memory) in enumerate(map(gpu_use, self._gpus)):
            values |= {GPU_USE.format(number): use, GPU_MEMORY.format(number): memory}
        step = latest.step if latest else 0
        if latest and latest.step != self._told_step:
            values |= {ROWS: latest.rows_per_second, WAITING: latest.data_share}
            self._told_step = latest.step
        self._clock, self._cpu = now, cpu
        at = time.time()
        with self._lock:
            self._waiting += [Reading(name, value, step, at) for name, value in values.items()]

    def hand_on(self) -> None:
        """Hands on what was read since the last time; what is not taken is kept for the next."""
        with self._lock:
            self._hand_on(self._waiting)
            newest = {one.name: one.value for one in self._waiting}
            self._waiting = []
        if self._latest and CPU in newest:
            p = self._latest
            self._say(
                f"step {p.step:,} of {p.steps:,}, epoch {p.epoch}: {p.rows_per_second:,.0f} rows a second, "
                f"{p.data_share:.0%} of the time waiting for rows, {newest[CPU]:.1f} cores, "
                f"{newest[MEMORY]:,.0f} MiB"
            )


@contextmanager
def watching(
    hand_on: Callable[[Sequence[Reading]], None],
    say: Callable[[str], None],
    every: float = EVERY_S,
    handed_on: float = HANDED_ON_S,
) -> Iterator[Monitor]:
    """A monitor whose readings are handed on as it goes and, all of them, at the end."""
    monitor, stop = Monitor(hand_on, say), threading.Event()

    def work() -> None:
        due = time.monotonic() + handed_on
        while not stop.wait(every):
            monitor.read()
            if time.monotonic() >= due:
                due += handed_on
                try:
                    monitor.hand_on()
                except Exception as error:  # training goes on; at the end it is tried once more, and said
                    say(f"readings could not be handed on yet: {error}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield monitor
    finally:
        stop.set()
        thread.join()
    monitor.read()
    monitor.hand_on()


def cpu_seconds() -> float:
    """CPU seconds of this process and of all that it started and that still runs, since they began."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += times.user + times.system
    return total


def gpus() -> list[Any]:
    """NVML's handles of the GPUs that this machine has; none where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no driver, no library, no permission: there is nothing to watch
        return []


def gpu_use(handle: Any) -> tuple[float, float]:
    """How busy a GPU is, and how much of its memory is taken, both in percent."""
    import pynvml

    use, memory = pynvml.nvmlDeviceGetUtilizationRates(handle), pynvml.nvmlDeviceGetMemoryInfo(handle)
    return float(use.gpu), 100 * memory.used / memory.total
