"""How fast training goes, and how long it waits for its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sevenfold.training.batches import Batch
from sevenfold.training.record import Progress

REPORT_S = 1.0
"""Seconds between two reports of progress."""


class Meter:
    """Counts rows and seconds; tells `on_progress` about once a second, and at the end of every epoch."""

    def __init__(self, steps: int, on_progress: Callable[[Progress], None]) -> None:
        self._steps, self._tell = steps, on_progress
        self._epoch_began = self._reported_at = time.perf_counter()
        self._rows_of_epoch = self._rows = 0
        self._waited = 0.0
        self._latest = (0, 0)

    def waiting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of an epoch; what it takes to get one is waiting, the rest is training."""
        self._epoch_began, self._rows_of_epoch = time.perf_counter(), 0
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                break
            yield batch
        self._report(time.perf_counter())

    def count(self, step: int, epoch: int, rows: int) -> None:
        """A step is done."""
        self._latest = (step, epoch)
        self._rows += rows
        self._rows_of_epoch += rows
        now = time.perf_counter()
        if now - self._reported_at >= REPORT_S:
            self._report(now)

    def rows_per_second(self) -> float:
        """Of the epoch so far."""
        return self._rows_of_epoch / max(time.perf_counter() - self._epoch_began, 1e-9)

    def _report(self, now: float) -> None:
        seconds = now - self._reported_at
        if not self._rows or seconds <= 0:
            return
        step, epoch = self._latest
        share = min(1.0, self._waited / seconds)
        self._tell(Progress(step, self._steps, epoch, self._rows / seconds, share))
        self._reported_at, self._rows, self._waited = now, 0, 0.0
