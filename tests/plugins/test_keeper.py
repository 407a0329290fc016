"""The keeper: exit codes as a container's, and nothing of a container outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sevenfold_airflow.local_pod import KEEPER

UP = "print('up', flush=True); time.sleep(300)"
TREE = f"import subprocess, time; subprocess.Popen(['sleep', '300']); {UP}"
DEAF = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {UP}"


class Kept:
    """A keeper with a command, and our end of its lifeline."""

    def __init__(self, *command: str, grace: float = 0.5) -> None:
        self.lifeline, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(theirs.fileno()), str(grace), "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()

    def until_up(self) -> list[psutil.Process]:
        """The processes of the container, once it has said that it is up."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"
        time.sleep(0.1)
        return psutil.Process(self.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process], within: float = 5) -> bool:
    return not psutil.wait_procs(processes, timeout=within)[1]


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("pass", 0),
        ("import sys; sys.exit(64)", 64),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_exit_code_is_a_containers(program: str, code: int) -> None:
    assert Kept(sys.executable, "-c", program).process.wait(10) == code


def test_a_command_that_is_not_there() -> None:
    kept = Kept("/nowhere/python")
    out, _ = kept.process.communicate(timeout=10)
    assert kept.process.returncode == 127
    assert out == b"/nowhere/python: No such file or directory\n"


def test_what_the_command_used_is_told() -> None:
    kept = Kept(sys.executable, "-c", "x = bytearray(60_000_000); sum(range(3_000_000))")
    assert kept.process.wait(20) == 0
    used = json.loads(kept.lifeline.recv(4096))
    assert used["peak_mib"] > 55
    assert used["cpu_seconds"] > 0.01


def test_sigterm_ends_the_whole_tree() -> None:
    kept = Kept(sys.executable, "-c", TREE)
    tree = kept.until_up()
    assert len(tree) == 2
    kept.process.terminate()
    assert gone(tree)
    assert kept.process.wait(5) == 143


def test_who_ignores_sigterm_is_killed_after_the_grace() -> None:
    kept = Kept(sys.executable, "-c", DEAF, grace=0.3)
    tree = kept.until_up()
    started = time.monotonic()
    kept.process.terminate()
    assert kept.process.wait(5) == 137
    assert 0.25 < time.monotonic() - started < 3
    assert gone(tree)


def test_the_tree_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "starter.py"
    program.write_text(
        "import socket, subprocess, sys\n"
        "ours, theirs = socket.socketpair()\n"
        f"keeper = [sys.executable, '-I', '-S', {str(KEEPER)!r}, str(theirs.fileno()), '0.5', '--']\n"
        f"command = [sys.executable, '-c', {TREE!r}]\n"
        "p = subprocess.Popen(keeper + command, start_new_session=True, pass_fds=(theirs.fileno(),))\n"
        "theirs.close(); print(p.pid, flush=True); p.wait()\n"
    )
    starter = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    lines = [starter.stdout.readline().strip() for _ in range(2)]
    keeper = psutil.Process(int(next(line for line in lines if line.isdigit())))
    time.sleep(0.2)
    tree = [keeper, *keeper.children(recursive=True)]
    assert len(tree) == 3
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    assert gone(tree)


def test_who_leaves_the_group_on_purpose_stays(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    daemon = (
        "import subprocess, pathlib\n"
        "p = subprocess.Popen(['sleep', '300'], start_new_session=True, stdout=subprocess.DEVNULL)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid))"
    )
    assert Kept(sys.executable, "-c", daemon).process.wait(10) == 0
    stayed = psutil.Process(int(note.read_text()))
    assert stayed.is_running()
    stayed.kill()
