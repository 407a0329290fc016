"""The watcher: each alert wakes training once, also over a restart, and a store that is away ends nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.rail_world import AS_OF, World

from sevenfold_airflow import alerts
from sevenfold_airflow.alerts import AlertTrigger


class Cursor:
    """Airflow's store of an asset's state, as far as the trigger uses it."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = value


def told(cursor: Cursor, seconds: float = 0.3) -> list[str]:
    """The windows that a fresh trigger tells of within some time."""
    trigger = AlertTrigger("toy", poll_seconds=0.02)
    trigger.asset_state_store = cursor
    windows: list[str] = []

    async def listen() -> None:
        async for event in trigger.run():
            windows.append(event.payload["window"])

    async def limited() -> None:
        await asyncio.wait_for(listen(), seconds)

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    return windows


def alarm(world: World, window: str, kind: str = "harmful_drift", **more: Any) -> None:
    world.store.add_alert("toy", kind, window, AS_OF, "critical", 2.0, "harm", **more)


def test_each_alert_once_over_restarts(world: World) -> None:
    cursor = Cursor()
    alarm(world, "w1")
    alarm(world, "dismissed", kind="harmless_drift", state="dismissed")
    assert told(cursor) == ["w1"]
    assert told(cursor) == []
    alarm(world, "w2")
    assert told(cursor) == ["w2"]


def test_a_store_that_is_away_for_a_moment_ends_nothing(world: World, monkeypatch: Any) -> None:
    alarm(world, "w1")
    real, calls = alerts.calls_for_training, []

    def flaky(model: str) -> Any:
        calls.append(model)
        if len(calls) < 3:
            raise OSError("database is away")
        return real(model)

    monkeypatch.setattr(alerts, "calls_for_training", flaky)
    assert told(Cursor()) == ["w1"]


def test_it_can_be_built_again_anywhere() -> None:
    path, arguments = AlertTrigger("toy", 3.0).serialize()
    assert path == "sevenfold_airflow.alerts.AlertTrigger"
    assert AlertTrigger(**arguments).serialize() == (path, arguments)
