"""When traffic is replayed, and when there is none left; the player itself has its own tests."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import pytest

from sevenfold.demo.flow import Flow, TrafficOver
from sevenfold.errors import SevenfoldError

SOON, LATER = timedelta(0), timedelta(hours=1)


class Replay:
    """Stands for the player's thread."""

    def __init__(self) -> None:
        self.running = self.over = False
        self.failure: Exception | None = None

    def start(self) -> None:
        self.running = True


def flow(patience: timedelta, traffic: str | None = None) -> tuple[Flow, Replay]:
    replay = Replay()
    promotion = SimpleNamespace(params={"traffic": traffic} if traffic else {})
    spec = SimpleNamespace(data=SimpleNamespace(ends=date(2013, 12, 31)))
    activity = SimpleNamespace(promotion=promotion, spec=spec, progress=lambda line: None)
    return Flow(activity, replay, patience), replay  # type: ignore[arg-type]


def test_callers_are_waited_for_before_anything_is_replayed() -> None:
    patient, replay = flow(LATER)
    patient.seen(0)
    assert not replay.running
    impatient, replay = flow(SOON)
    impatient.seen(0)
    assert replay.running


def test_while_callers_come_nothing_is_replayed() -> None:
    impatient, replay = flow(timedelta(milliseconds=200))
    impatient.seen(5)
    assert not replay.running


@pytest.mark.parametrize(("traffic", "replays"), [("replay", True), ("live", False)])
def test_the_promotion_may_say_what_is_wanted(traffic: str, replays: bool) -> None:
    wanted, replay = flow(LATER if replays else SOON, traffic)
    wanted.seen(0)
    assert replay.running is replays


def test_when_the_days_are_over_and_nobody_calls_it_says_so() -> None:
    silent, replay = flow(SOON)
    replay.over = True
    with pytest.raises(TrafficOver, match="all days of the data"):
        silent.seen(0)
    assert not replay.running


def test_what_stopped_the_replay_is_told() -> None:
    silent, replay = flow(SOON)
    replay.failure = SevenfoldError("the data lack 2013-05-01")
    with pytest.raises(SevenfoldError, match="lack 2013-05-01"):
        silent.seen(0)
