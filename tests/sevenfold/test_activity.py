"""The program of a pod: what it does before there is anything to measure."""

from __future__ import annotations

from typing import Any

import pytest

from sevenfold import activity
from sevenfold.activity import Activity, run
from sevenfold.database import StoreUnavailable
from sevenfold.promotion import UnknownPromotion

ARGUMENTS = ["--model", "toy", "--environment", "training", "--run", "run-1"]


class Network:
    """An evidence store that can be reached at the n-th try; it knows no promotion."""

    def __init__(self, reached_at: int) -> None:
        self.asked, self._reached_at = 0, reached_at

    def __call__(self, *_: Any) -> Any:
        self.asked += 1
        if self.asked < self._reached_at:
            raise StoreUnavailable("no route to host")
        return self

    def promotion(self, number: str) -> None:
        raise UnknownPromotion(f"there is no promotion {number}")

    def activity_failed(self, *_: str) -> None:
        pass


def nothing(_: Activity) -> None:
    raise AssertionError("there is no promotion to do anything for")


@pytest.mark.parametrize(("reached_at", "said"), [(3, "no promotion toy/training/run-1"), (999, "no route")])
def test_a_network_that_learns_late_of_a_pod_is_waited_for(
    reached_at: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network(reached_at)
    monkeypatch.setattr(activity, "open_store", network)
    monkeypatch.setattr(activity, "NETWORK_S", 0.1)
    with pytest.raises(SystemExit) as end:
        run(nothing, ARGUMENTS)
    assert end.value.code == (64 if reached_at == 3 else 1)
    assert said in capsys.readouterr().err
