"""A benchmark signals its own stack only: not its own group, not whoever has the number now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.benchmarks.victims import NotOurs, send

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(1000)"]


@pytest.mark.parametrize("pid", [-1, 0, 1, pytest.param(os.getpid(), id="own"), 2**22 - 1])
def test_who_is_none_of_the_stack_is_left_alone(pid: int, tmp_path: Path) -> None:
    with pytest.raises(NotOurs):
        send(0, pid, tmp_path)  # signal 0 only asks: should it get through, nobody is harmed


def test_a_process_of_the_stack_is_signalled(tmp_path: Path) -> None:
    environment = {"SEVENFOLD_HOME": str(tmp_path)}
    with subprocess.Popen(SLEEP, env=environment, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None
            started.stdout.readline()  # it has become that program
            with pytest.raises(NotOurs):
                send(0, started.pid, tmp_path / "other")
            send(signal.SIGKILL, started.pid, tmp_path)
            assert started.wait(10) == -signal.SIGKILL
        finally:
            started.kill()
