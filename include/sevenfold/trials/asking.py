"""Asks one target for predictions of real rows, and brings labels back to it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from sevenfold.demo.player.batches import feedback, moments
from sevenfold.demo.player.client import Connection, Failed
from sevenfold.model.spec import ModelSpec
from sevenfold.trials.trial import Target

if TYPE_CHECKING:
    import pyarrow as pa

CONNECTIONS = 8
MINUTE = timedelta(minutes=1)
AGES = timedelta(days=36_500)
"""A slot of time that all rows fall into."""


@dataclass
class Asked:
    """What came back: `errors` counts requests not answered with 200 by status or by what broke."""

    requests: int = 0
    rows: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return self.errors.total()

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {what}" for what, count in self.errors.items()) or "no errors"
        return f"{self.requests:,} requests with {self.rows:,} rows in {self.seconds:.1f} s, {wrong}"


def ask(target: Target, spec: ModelSpec, rows: pa.Table, *, slot: timedelta = MINUTE) -> Asked:
    """Sends `rows` in order of time, those of one slot together, over a few connections."""
    asked, began = Asked(), time.monotonic()
    waiting = chain.from_iterable(moments(rows, spec.numeric, spec.categorical, slot))

    async def work() -> None:
        connection = Connection(target.host, target.token)
        for batch in waiting:  # shared: each connection takes the next one
            asked.requests += 1
            try:
                status, _ = await connection.post(f"{target.path}/infer", batch.body, batch.entity)
            except Failed as error:
                asked.errors[str(error)] += 1
                continue
            if status == 200:
                asked.rows += batch.rows
            else:
                asked.errors[str(status)] += 1
        connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())
    asked.seconds = time.monotonic() - began
    return asked


def bring_labels(target: Target, labels: pa.Table) -> int:
    """Sends labels (id, label, known_at) back; returns how many were taken."""

    async def send() -> int:
        connection, taken = Connection(target.host, target.token), 0
        for count, body in feedback(labels.select(["id", "label", "known_at"])):
            try:
                status, _ = await connection.post(f"{target.path}/feedback", body)
            except Failed:
                continue
            taken += count if status == 200 else 0
        connection.close()
        return taken

    return asyncio.run(send())


def bodies(spec: ModelSpec, rows: pa.Table, size: int) -> Iterator[bytes]:
    """Request bodies of `size` rows each (the last one may have fewer), in the order of `rows`."""
    for start in range(0, rows.num_rows, size):
        together = moments(rows.slice(start, size), spec.numeric, spec.categorical, AGES)
        yield from (batch.body for batch in chain.from_iterable(together))
