"""Watches the store for alerts that ask for training, and tells the drift asset of each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from sevenfold.evidence.records import Alert
from sevenfold.evidence.store import open_store

ASKS_FOR_TRAINING = "harmful_drift"
"""Kind of the alerts that start training (activities.monitoring.retraining_trigger)."""
LAST_TOLD = "last_alert"


def calls_for_training(model: str) -> list[Alert]:
    """The open alerts that ask for training of `model`, oldest first."""
    return [alert for alert in open_store().open_alerts(model) if alert.kind == ASKS_FOR_TRAINING]


class AlertTrigger(BaseEventTrigger):
    """One event for each new alert of `model`. The cursor outlives a triggerer; delivery is at least once."""

    def __init__(self, model: str, poll_seconds: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments from which any triggerer builds it again."""
        arguments = {"model": self.model, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields `{"alert", "window", "reason"}` of each new alert, for ever."""
        cursor = self.asset_state_store
        kept = await cursor.aget(LAST_TOLD, 0) if cursor is not None else 0
        told = kept if isinstance(kept, int) else 0
        while True:
            for alert in await self._newer_than(told):
                event = {"alert": alert.id, "window": alert.window, "reason": alert.reason}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                told = alert.id
                if cursor is not None:
                    await cursor.aset(LAST_TOLD, told)
            await asyncio.sleep(self.poll_seconds)

    async def _newer_than(self, told: int) -> list[Alert]:
        try:
            alerts = await asyncio.to_thread(calls_for_training, self.model)
        except Exception:
            # A store that is away for a moment must not end the watch: nothing would start it again.
            self.log.exception("the alerts of %s cannot be read now", self.model)
            return []
        return [alert for alert in alerts if alert.id > told]
