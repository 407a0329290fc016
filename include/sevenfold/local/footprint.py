"""What the local stack costs in memory: proportional set size, so that shared pages count once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType

import psutil  # type: ignore[import-untyped]


def memory(roots: Iterable[int]) -> int:
    """Bytes of all processes below (and with) the process ids `roots`.

    PSS (Linux: /proc/<pid>/smaps_rollup) divides a shared page among those who share it; summing RSS would
    count the pages of forked workers many times.
    """
    processes: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            processes |= {child.pid: child for child in [process, *process.children(recursive=True)]}
        except psutil.NoSuchProcess:
            continue
    return sum(_pss(process) for process in processes.values())


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0


class PeakMemory:
    """Samples `memory` in the background; `peak` and `last` are bytes.

    A sample walks the pages of everything that runs: 0.15 s of CPU, in which who is looked at waits.
    """

    def __init__(self, roots: Iterable[int], every: float = 5.0) -> None:
        self.peak = 0
        self.last = 0
        self._roots = tuple(roots)
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            self.last = memory(self._roots)
            self.peak = max(self.peak, self.last)
            self._stop.wait(self._every)
