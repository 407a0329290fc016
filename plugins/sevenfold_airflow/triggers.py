"""Waits, outside of any worker, until a gate can say more than 'not proven either way'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from sqlalchemy import func, select

from sevenfold.evidence.database import StoreUnavailable
from sevenfold.evidence.store import Store, open_store
from sevenfold.evidence.tables import measurements
from sevenfold.gates.analyse import analyse
from sevenfold.gates.verdict import Verdict


class GateTrigger(BaseTrigger):
    """Fires when the verdict on a promotion is final, when its deadline has passed, or when it has ended.

    While it waits it asks for one number every few seconds, and judges only when that has grown. It keeps
    nothing: a triggerer that is killed is replaced by one that starts from the store. What it saw is a
    wake-up only; the gate judges again itself.
    """

    def __init__(self, promotion: str, decide_by: str, poll_seconds: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.promotion = promotion
        self.decide_by = decide_by
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments from which any triggerer builds it again."""
        arguments = {
            "promotion": self.promotion,
            "decide_by": self.decide_by,
            "poll_seconds": self.poll_seconds,
        }
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields one event with the reason to look again."""
        seen = 0
        while True:
            seen, why = await asyncio.to_thread(self._look, seen)
            if why is not None:
                yield TriggerEvent({"why": why})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poll_seconds)

    def _look(self, seen: int) -> tuple[int, str | None]:
        """The newest reading, and why the gate should be woken, if it should."""
        now = datetime.now(UTC)
        if now >= datetime.fromisoformat(self.decide_by):
            return seen, "the deadline has passed"
        try:
            store = open_store()
            if store.promotion(self.promotion).state != "running":
                return seen, "the promotion has ended"
            newest = _last_reading(store, self.promotion)
            if newest == seen:
                return seen, None
            verdict = analyse(store, self.promotion, now).verdict
        except StoreUnavailable:
            return (
                seen,
                None,
            )  # away for longer than the gate's retries last; until the deadline there is time
        except Exception as error:
            # The gate's task has retries and shows errors; a trigger has neither.
            return seen, f"judging failed: {error}"
        return newest, None if verdict is Verdict.INCONCLUSIVE else f"the verdict is {verdict}"


def _last_reading(store: Store, identity: str) -> int:
    """A number that grows with every new measurement of a promotion: cheap to ask for again and again."""
    query = select(func.max(measurements.c.sequence)).where(measurements.c.promotion == identity)
    with store.reading() as connection:
        return connection.scalar(query) or 0
