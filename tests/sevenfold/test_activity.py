"""The program of a pod: what it does before there is anything to measure."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sevenfold import activity
from sevenfold.activity import Activity, run
from sevenfold.evidence.database import StoreUnavailable
from sevenfold.release.promotion import UnknownPromotion

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
    monkeypatch.setattr(activity, "NETWORK_S", 4.0 if reached_at == 3 else 0.1)
    with pytest.raises(SystemExit) as end:
        run(nothing, ARGUMENTS)
    assert end.value.code == (64 if reached_at == 3 else 1)
    assert said in capsys.readouterr().err


def test_what_has_nothing_to_do_in_a_run_that_was_not_admitted_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A red roll_back says that users may meet the candidate: not one whose candidate was never let in."""
    monkeypatch.setattr(activity, "open_store", Network(1))
    run(nothing, ARGUMENTS, not_admitted="nothing to take off")
    assert "nothing to take off" in capsys.readouterr().out
    words = ["--model", "toy", "--environment", "production", "--run", "run-1"]
    monkeypatch.setattr("sys.argv", ["roll_back", *words])
    runpy.run_module("activities.production.roll_back", run_name="__main__", alter_sys=True)
    assert "there is nothing to take off" in capsys.readouterr().out


PROGRAM = """
import atexit
from datetime import datetime
from types import SimpleNamespace
from sevenfold import activity
from sevenfold.errors import SevenfoldError

class Part:
    def __del__(self):
        print("taken apart")

def main(_):
    atexit.register(print, "whoever wants to hear of the end does")
    print("measured", end="")
    if {fails}:
        raise SevenfoldError("no rows")

part = Part()
promotion = SimpleNamespace(id="toy/training/run-1", as_of=datetime(2020, 1, 1))
activity.open_store = lambda _: SimpleNamespace(
    promotion=lambda _: promotion, audit=print, activity_failed=lambda *_: None
)
activity.run(main)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_program_that_is_done_leaves_at_once(fails: bool, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(fails=fails))
    ended = subprocess.run(
        [sys.executable, str(program), *ARGUMENTS],
        env={"PYTHONPATH": str(Path(activity.__file__).parents[1]), "SEVENFOLD_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == (64 if fails else 0), ended.stderr
    assert "measured" in ended.stdout
    assert "whoever wants to hear of the end does" in ended.stdout
    assert ("taken apart" in ended.stdout) == fails
