"""The keeper of one local container: starts its command, and makes sure that nothing of it is left behind.

    python -I -S keeper.py <lifeline> <grace seconds> -- command arguments...

What a kubelet does for a container, this does for a process. The command runs in a process group of its
own. On SIGTERM, or when the other end of the lifeline (a socket) closes because whoever started us is gone,
however it died, the group gets SIGTERM and, after the grace, SIGKILL. Exits as a container does (128 + n
after signal n) and writes what the command used to the lifeline. Imports nothing of Sevenfold or Airflow: it
starts in milliseconds and outlives the task that started it.

A process that leaves the group on purpose (setsid) has asked to outlive its container, and does.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time


def keep(lifeline: socket.socket, grace: float, command: list[str]) -> int:
    """Runs `command` until it ends, or ends it; returns its exit code."""
    signals, stop = _signals_as_reads()
    child = _start(command, close=[lifeline.fileno(), signals])
    watched = [lifeline.fileno(), signals]
    kill_at: float | None = None
    while True:
        patience = None if kill_at is None else max(0.1, kill_at - time.monotonic())
        readable, _, _ = select.select(watched, [], [], patience)
        if signals in readable:
            os.read(signals, 512)
        if lifeline.fileno() in readable:
            watched.remove(lifeline.fileno())
            stop["asked"] = True
        if stop["asked"] and kill_at is None:
            kill_at = time.monotonic() + grace
            _signal_group(child, signal.SIGTERM)
        if kill_at is not None and time.monotonic() >= kill_at:
            _signal_group(child, signal.SIGKILL)
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            _signal_group(child, signal.SIGKILL)
            _report(lifeline, used.ru_utime + used.ru_stime, used.ru_maxrss)
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _signals_as_reads() -> tuple[int, dict[str, bool]]:
    """SIGTERM and SIGCHLD wake the select by a byte on a pipe; SIGTERM also leaves a mark."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    stop = {"asked": False}
    signal.signal(signal.SIGTERM, lambda *_: stop.update(asked=True))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return reading, stop


def _start(command: list[str], close: list[int]) -> int:
    child = os.fork()
    if child:
        # Both sides set the group, so that whoever comes first has set it before it is signalled.
        _quietly(os.setpgid, child, child)
        return child
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in close:
        os.close(descriptor)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _signal_group(leader: int, number: int) -> None:
    _quietly(os.killpg, leader, number)


def _quietly(call, *arguments) -> None:  # type: ignore[no-untyped-def]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        call(*arguments)


def _report(lifeline: socket.socket, cpu_seconds: float, peak_kib: int) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to hear it
        lifeline.sendall(json.dumps({"cpu_seconds": cpu_seconds, "peak_mib": peak_kib / 1024}).encode())


if __name__ == "__main__":
    os._exit(keep(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), sys.argv[4:]))
