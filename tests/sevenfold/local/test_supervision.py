"""A real supervisord: programs run, restart, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from tests.sevenfold.serving.local import wait

from sevenfold.local.sockets import UnsafeFolder, socket_folder
from sevenfold.local.supervision import BadProgram, Program, Supervisor, SupervisorDown, UnknownProgram

SLEEP = ("/bin/sh", "-c", "exec sleep 1000")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path_factory.mktemp("home"))
    yield supervisor
    supervisor.shutdown()


@pytest.fixture
def supervisor(shared: Supervisor) -> Iterator[Supervisor]:
    """One supervisord for all tests, with nothing to run."""
    shared.start()
    yield shared
    if shared.running():
        shared.remove(*(program.name for program in shared.status()))


def pid(supervisor: Supervisor, name: str) -> int:
    wait(lambda: supervisor.program(name).pid > 0)
    return supervisor.program(name).pid


def test_a_program_runs_restarts_and_goes(supervisor: Supervisor) -> None:
    supervisor.add(Program("sleeper", SLEEP, stopwaitsecs=3))
    first = pid(supervisor, "sleeper")
    supervisor.add(Program("sleeper", SLEEP, stopwaitsecs=3))
    assert pid(supervisor, "sleeper") == first  # the same program again changes nothing
    os.kill(first, signal.SIGKILL)
    wait(lambda: supervisor.program("sleeper").pid not in (0, first))
    second = pid(supervisor, "sleeper")
    supervisor.restart("sleeper")
    third = pid(supervisor, "sleeper")
    assert third != second
    supervisor.add(Program("sleeper", SLEEP, env={"X": "1"}, stopwaitsecs=3))
    other = psutil.Process(pid(supervisor, "sleeper"))
    wait(lambda: other.environ().get("X") == "1")  # another one replaces it, once it has begun
    assert not psutil.pid_exists(third)
    last = pid(supervisor, "sleeper")
    supervisor.remove("sleeper", "never-was")
    assert not psutil.pid_exists(last)
    assert supervisor.status() == []
    with pytest.raises(UnknownProgram, match="no program 'sleeper'"):
        supervisor.restart("sleeper")


def test_who_dies_is_started_again_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    born = tmp_path / "born"
    supervisor.add(Program("mortal", ("/bin/sh", "-c", f"echo $$ >> {born}; exec sleep 1000"), startsecs=0))

    def generations() -> list[int]:
        """Read from the file: supervisord looks after its programs whenever it is asked something."""
        return [int(line) for line in born.read_text().split()] if born.exists() else []

    pauses = []
    for number in range(1, 6):
        wait(lambda number=number: len(generations()) == number)  # type: ignore[misc]
        died = time.monotonic()
        os.kill(generations()[-1], signal.SIGKILL)
        wait(lambda number=number: len(generations()) > number)  # type: ignore[misc]
        pauses.append(time.monotonic() - died)
    assert min(pauses) < 0.8, pauses  # supervisord by itself takes a second each time


def test_words_and_variables_arrive_as_they_were_given(supervisor: Supervisor) -> None:
    words = ("100%", "a;b", "it's", 'say "hi"', "$HOME", "a,b=c")
    values = {"A": "50% off", "B": "it's;#1", "C": 'say "hi" now', "D": "a, b=c", "E": ""}
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], {k: os.environ[k] for k in 'ABCDE'}]))"
    supervisor.add(Program("echo", (sys.executable, "-c", code, *words), env=values, autorestart=False))
    wait(lambda: supervisor.tail("echo") != "")
    assert json.loads(supervisor.tail("echo")) == [list(words), values]


@pytest.mark.parametrize("word", ["a\nb", "a ;b", "a #b", "%(here)s"])
def test_what_its_files_cannot_express_is_refused(supervisor: Supervisor, word: str) -> None:
    with pytest.raises(BadProgram, match="cannot express"):
        supervisor.add(Program("x", ("/bin/echo", word)))
    with pytest.raises(BadProgram, match="quotes in the variable X"):
        supervisor.add(Program("x", SLEEP, env={"X": f"'{word}"}))
    supervisor.add(Program("y", SLEEP))  # nothing of it was left in the way
    assert pid(supervisor, "y")


def test_a_final_exit_is_not_followed_by_a_start(supervisor: Supervisor) -> None:
    ends = ("/bin/sh", "-c", "sleep 0.2; echo ended; exit 7")
    supervisor.add(Program("final", ends, final_codes=(7,), startsecs=0))
    supervisor.add(Program("again", ends, startsecs=0))
    wait(lambda: supervisor.tail("again").count("ended") > 1)
    assert supervisor.tail("final").count("ended") == 1
    assert supervisor.program("final").state == "EXITED"


def test_what_fails_at_once_is_started_again_later_and_later_and_then_given_up(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    command = ("/bin/sh", "-c", f"date +%s.%N >> {starts}; exit 1")
    supervisor.add(Program("fails", command, startretries=3))
    wait(lambda: supervisor.program("fails").state == "FATAL", 30)
    times = [float(line) for line in starts.read_text().split()]
    assert len(times) == 4
    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause > number - 0.2 for number, pause in enumerate(pauses, start=1)), pauses


def test_a_name_is_letters_digits_dots_dashes() -> None:
    with pytest.raises(BadProgram, match="is no name of a program"):
        Program("a/b", SLEEP)


def test_it_outlives_the_group_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from sevenfold.local.supervision import Program, Supervisor\n"
    )
    code += f"supervisor = Supervisor(Path({str(tmp_path)!r})); supervisor.start()\n"
    code += f"supervisor.add(Program('sleeper', {SLEEP!r})); os.killpg(os.getpgrp(), 9)"
    include = str(Path(sys.modules["sevenfold.local.supervision"].__file__ or "").parents[2])
    command = [sys.executable, "-c", code]
    subprocess.run(command, start_new_session=True, check=False, env={"PYTHONPATH": include})
    supervisor = Supervisor(tmp_path)
    try:
        assert pid(supervisor, "sleeper")
    finally:
        supervisor.shutdown()


def test_what_a_killed_supervisord_left_is_ended_before_the_next_starts(supervisor: Supervisor) -> None:
    supervisor.add(Program("parent", ("/bin/sh", "-c", "sleep 1000 & sleep 1000")))
    orphan = pid(supervisor, "parent")
    wait(lambda: len(psutil.Process(orphan).children()) == 2)
    family = [orphan, *(child.pid for child in psutil.Process(orphan).children())]
    master = int((supervisor.home / "run" / "supervisord.pid").read_text())
    os.kill(master, signal.SIGKILL)
    wait(lambda: not supervisor.running())
    assert all(psutil.pid_exists(one) for one in family)
    with pytest.raises(SupervisorDown, match="no supervisord answers"):
        supervisor.status()
    supervisor.start()
    assert not any(psutil.pid_exists(one) and psutil.Process(one).status() != "zombie" for one in family)
    assert pid(supervisor, "parent") not in family


def test_shutdown_ends_everything_and_can_be_repeated(supervisor: Supervisor) -> None:
    supervisor.start()  # runs already
    supervisor.add(Program("sleeper", SLEEP))
    sleeper = pid(supervisor, "sleeper")
    supervisor.shutdown()
    supervisor.shutdown()
    assert not supervisor.running()
    assert not psutil.pid_exists(sleeper)


def test_files_are_ours_alone(supervisor: Supervisor) -> None:
    supervisor.add(Program("sleeper", SLEEP, env={"PASSWORD": "x"}))
    for path in (supervisor.socket, *(supervisor.home / "run").rglob("*.conf")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 40)
    supervisor = Supervisor(home)
    assert len(str(supervisor.socket)) < 100
    assert Supervisor(home).socket == supervisor.socket
    try:
        supervisor.start()
        assert supervisor.running()
    finally:
        supervisor.shutdown()
    folder = socket_folder(home)
    folder.chmod(0o755)
    with pytest.raises(UnsafeFolder, match="only its owner"):
        socket_folder(home)
    folder.rmdir()
