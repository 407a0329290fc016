"""Plays days in order of time, as fast as it goes or at a given pace, and counts all that comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from sevenfold.demo.player.batches import EPOCH, Batch, feedback, moments
from sevenfold.demo.player.client import Connection, Failed
from sevenfold.demo.player.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from sevenfold.data.snapshot import Snapshot
    from sevenfold.model.spec import ModelSpec

DAY = timedelta(days=1)
LATEST_LABEL = timedelta(days=3)
"""How long after its row a label can come."""
LABEL_TRIES = 20
"""Labels are sent again, ever more slowly, for about half a minute before they are left for the next day."""
_BACK_OFF_S = 0.05
_LOOK_S = 0.1
"""How often a waiting connection looks whether it is to stop."""


@dataclass
class Played:
    """What was asked and what came back.

    `requests` counts all that were sent, `errors` those not answered with 200 by status or by what broke,
    `rows` the rows that were answered, `labels` the labels that were taken, `unsent_labels` those that were
    not and will be with the next day played. `candidates` counts answered requests by who answered.
    """

    days: int = 0
    requests: int = 0
    rows: int = 0
    labels: int = 0
    unsent_labels: int = 0
    seconds: float = 0.0
    stopped: bool = False
    errors: Counter[str] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return self.errors.total()


def play(
    spec: ModelSpec,
    snapshot: Snapshot,
    start: datetime,
    end: datetime,
    gateway: str,
    token: str,
    *,
    progress: Path,
    on_day: Callable[[datetime, Played], None] = lambda reached, played: None,
    stop: Callable[[], bool] = lambda: False,
    days_per_second: float | None = None,
    connections: int = 8,
    slot: timedelta = timedelta(minutes=1),
) -> Played:
    """Asks the gateway for predictions of the rows with start <= time < end that were not asked before.

    Args:
        spec: whose rows.
        snapshot: where they are read.
        start: first moment.
        end: first moment that is not played.
        gateway: URL of the gateway.
        token: a key with the scopes predict and feedback.
        progress: file that remembers what was played; a day in it is not played twice.
        on_day: called after each day with the moment reached and what was counted so far; sets the clock.
        stop: asked before each moment's requests; once it says True no more are sent, and those under way are
            finished.
        days_per_second: the pace; None plays as fast as it goes.
        connections: requests under way at one time.
        slot: rows whose times fall into one slot are one request (64 rows at most).

    Raises:
        MissingDay: the snapshot lacks a day of the window.
    """
    player = _Player(spec, snapshot, gateway, token, Progress(progress), stop, connections, slot)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for first, last in _days(start.astimezone(UTC), end.astimezone(UTC)):
            runner.run(player.day(first, last, days_per_second))
            player.played.seconds = time.monotonic() - began
            if player.played.stopped:
                break
            on_day(last, player.played)
        runner.run(player.close())
    return player.played


class _Player:
    def __init__(
        self,
        spec: ModelSpec,
        snapshot: Snapshot,
        gateway: str,
        token: str,
        progress: Progress,
        stop: Callable[[], bool],
        connections: int,
        slot: timedelta,
    ) -> None:
        self.played = Played()
        self._spec, self._snapshot, self._slot = spec, snapshot, slot
        self._progress, self._stop = progress, stop
        self._connections = [Connection(gateway, token) for _ in range(connections)]
        self._path = f"/v2/models/{spec.name}"

    async def day(self, start: datetime, end: datetime, pace: float | None) -> None:
        """Plays the rest of one day, then returns the labels that are known by its end."""
        day = start.date()
        reached = self._progress.reached(day, start)
        if reached < end:
            await self._ask(day, reached, end, pace)
            self.played.days += not self.played.stopped
        if not self.played.stopped:
            await self._label(end)
        self._progress.save()

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def _ask(self, day: date, start: datetime, end: datetime, pace: float | None) -> None:
        rows = self._snapshot.rows(start, end, (*self._spec.numeric, *self._spec.categorical))
        waiting = moments(rows, self._spec.numeric, self._spec.categorical, self._slot)
        began = time.monotonic()
        left: list[datetime] = []

        async def work(connection: Connection) -> None:
            for moment in waiting:  # shared: each connection takes the next one
                due = began + (moment[-1].time - start) / DAY / pace if pace else began
                if not await self._may_send(due):
                    left.append(moment[0].start)
                    return
                for batch in moment:
                    await self._send(connection, batch)

        await asyncio.gather(*(work(connection) for connection in self._connections))
        self.played.stopped = bool(left)
        self._progress.days[day] = min(left) if left else end  # what was taken before is answered by now

    async def _may_send(self, due: float) -> bool:
        """Waits until `due`, on the monotonic clock; False once the player is to stop."""
        while not self._stop():
            wait = due - time.monotonic()
            if wait <= 0:
                return True
            await asyncio.sleep(min(wait, _LOOK_S))
        return False

    async def _send(self, connection: Connection, batch: Batch) -> None:
        self.played.requests += 1
        try:
            status, headers = await connection.post(f"{self._path}/infer", batch.body, batch.entity)
        except Failed as error:
            self.played.errors[str(error)] += 1
            await asyncio.sleep(_BACK_OFF_S)  # a gateway that is gone must not be asked ten thousand times
            return
        if status == 200:
            self.played.rows += batch.rows
            self.played.candidates[headers.get("x-candidate", "")] += 1
        else:
            self.played.errors[str(status)] += 1

    async def _label(self, now: datetime) -> None:
        """Returns labels that became known since the last time, of rows that were asked."""
        since = self._progress.labels_until or EPOCH
        if now <= since:
            return
        labels = self._known(since, now)
        self.played.unsent_labels = labels.num_rows
        for count, body in feedback(labels):
            if not await self._returned(body):
                return  # they are found again with the next day, for `labels_until` stays
            self.played.labels += count
            self.played.unsent_labels -= count
        self._progress.labels_until = now

    def _known(self, since: datetime, now: datetime) -> pa.Table:
        """Labels with since < known_at <= now of rows that were asked."""
        import pyarrow as pa
        import pyarrow.compute as pc

        asked = self._progress.days
        oldest = since.date() - LATEST_LABEL
        days = [day for day in sorted(asked) if day >= oldest]
        parts = [
            self._snapshot.labels(_midnight(first), min(asked[last], now), now)
            for first, last in _runs(days)
            if _midnight(first) < min(asked[last], now)
        ]
        if not parts:
            return pa.table({"id": []})
        labels = pa.concat_tables(parts)
        return labels.filter(pc.greater(labels["known_at"], pa.scalar(since, labels["known_at"].type)))

    async def _returned(self, body: bytes) -> bool:
        for attempt in range(LABEL_TRIES):
            try:
                status, _ = await self._connections[0].post(f"{self._path}/feedback", body)
            except Failed:
                status = 0
            if status == 200:
                return True
            if self._stop():
                return False
            await asyncio.sleep(min(2.0, _BACK_OFF_S * 2**attempt))
        return False


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The window cut at midnights, UTC."""
    while start < end:
        until = min(end, _midnight(start.date()) + DAY)
        yield start, until
        start = until


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _runs(days: list[date]) -> Iterator[tuple[date, date]]:
    """First and last day of each run of days that follow each other."""
    for _, run in groupby(enumerate(days), key=lambda place: place[1].toordinal() - place[0]):
        together = [day for _, day in run]
        yield together[0], together[-1]
