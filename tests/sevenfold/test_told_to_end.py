"""A program that is the first of its container ends when it is told: the kernel passes its signals over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from activities.production import go_back
from sevenfold import activity
from sevenfold.serving import server
from sevenfold.settings import REPOSITORY
from sevenfold.told_to_end import TERMINATED

FIRST = """
import os, time
os.getpid = lambda: 1
from sevenfold.told_to_end import ends_when_told
ends_when_told()
print("ready", flush=True)
time.sleep(60)
"""


def test_it_ends_by_its_own_handler_and_at_once() -> None:
    here = {**os.environ, "PYTHONPATH": str(REPOSITORY / "include")}
    with subprocess.Popen([sys.executable, "-c", FIRST], stdout=subprocess.PIPE, env=here) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ready\n"
        first.terminate()
        assert first.wait(20) == TERMINATED, "not by the signal itself, which the first process does not get"


@pytest.mark.parametrize(
    "program",
    [lambda given: activity.run(lambda _: None, given), go_back.main, server.main],
    ids=["activity", "go_back", "server"],
)
def test_programs_of_pods_do(program: Callable[[list[str]], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(signal, "signal", lambda number, handler: handled.append(number))
    with pytest.raises(SystemExit):
        program(["--help"])
    assert handled == [signal.SIGTERM]
