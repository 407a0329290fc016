"""What holds while a candidate is tried: the slot is waited for, and SIGTERM ends in order."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from sevenfold.release.release_row import SlotBusy
from sevenfold.trials import trial
from sevenfold.trials.trial import GatewayDown, Target, claim_slot, ends_in_order


def activity() -> tuple[SimpleNamespace, list[str]]:
    lines: list[str] = []
    return SimpleNamespace(store=None, promotion=SimpleNamespace(id="p"), progress=lines.append), lines


def busy(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [times]

    def claim(store: object, promotion: str, by: str) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise SlotBusy("another one is being tried")
        return f"row for {promotion} by {by}"

    monkeypatch.setattr(trial.release, "claim", claim)
    monkeypatch.setattr(trial, "SLOT_POLL_S", 0.01)


def test_the_slot_is_waited_for_and_the_wait_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(3, monkeypatch)
    handle, lines = activity()
    assert claim_slot(handle, "shadow") == "row for p by shadow"  # type: ignore[arg-type, comparison-overlap]
    assert lines == ["another one is being tried"]


def test_a_slot_that_stays_busy_is_an_error_that_a_retry_may_heal(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(10**6, monkeypatch)
    monkeypatch.setattr(trial, "SLOT_LIMIT_S", 0.05)
    with pytest.raises(SlotBusy) as error:
        claim_slot(activity()[0], "shadow")  # type: ignore[arg-type]
    assert error.value.retry


def test_sigterm_runs_what_must_be_put_back_and_the_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    put_back = []
    with pytest.raises(SystemExit) as ended, ends_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            put_back.append(True)
    assert ended.value.code == 143
    assert put_back
    assert signal.getsignal(signal.SIGTERM) is before


def test_where_a_target_answers() -> None:
    target = Target("http://127.0.0.1:1", "/staging/v2/models/m", "key")
    assert target.url == "http://127.0.0.1:1/staging/v2/models/m"
    assert target.headers["authorization"] == "Bearer key"


def test_a_gateway_that_has_just_died_is_waited_for_and_one_that_is_not_there_is_told() -> None:
    answers = iter([False, False, True])
    back: Any = SimpleNamespace(running=lambda: next(answers))
    activity: Any = SimpleNamespace(settings=SimpleNamespace(gateway_url="http://127.0.0.1:1"))
    trial.require_gateway(activity, back)
    gone: Any = SimpleNamespace(running=lambda: False)
    with pytest.raises(GatewayDown, match=r"the gateway at http://127\.0\.0\.1:1 does not run"):
        trial.require_gateway(activity, gone, within=0)
