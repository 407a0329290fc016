"""The canary where nobody calls and no day is left to be played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from activities.production import canary
from sevenfold.demo.flow import TrafficOver


def without_traffic(met: int, monkeypatch: pytest.MonkeyPatch) -> canary.Canary:
    """A canary that has met so many requests when the last day has been played."""

    def over(*steps: Any, **how: Any) -> None:
        raise TrafficOver("nobody calls")

    monkeypatch.setattr(canary, "roll_out", over)
    one = canary.Canary.__new__(canary.Canary)
    one.met, one.share, one.polls = met, 0.5, 7
    one.activity = SimpleNamespace(progress=print)  # type: ignore[assignment]
    return one


def test_what_has_met_requests_is_judged_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = without_traffic(30, monkeypatch).go(())
    assert (outcome.finished, outcome.failed) == (False, False)
    assert outcome.reason == "undecided at 50%: nobody calls"


def test_what_has_met_none_says_so_instead_of_a_gate_without_readings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TrafficOver, match="nobody calls"):
        without_traffic(0, monkeypatch).go(())
