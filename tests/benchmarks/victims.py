"""Whom a benchmark may signal: processes of the stack that it has started itself, and nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from sevenfold.local.sockets import socket_folder


class NotOurs(Exception):
    """A process that is gone, or is none of the stack's."""


def send(number: int, pid: int, home: Path) -> None:
    """Sends a signal to a process of the stack whose home this is.

    A pid that supervisord or a file has told may be 0 (it does not run: the signal would go to the whole
    group of the benchmark) or somebody else's by now.

    Raises:
        NotOurs: the stack has no such process.
    """
    if pid <= 1 or not _of(pid, home):
        raise NotOurs(f"process {pid} is none of the stack in {home}")
    os.kill(pid, number)


def _of(pid: int, home: Path) -> bool:
    try:
        environment = psutil.Process(pid).environ()
    except psutil.Error:
        return False
    server = f"unix://{socket_folder(home) / 'supervisor.sock'}"
    return environment.get("SUPERVISOR_SERVER_URL") == server or environment.get("SEVENFOLD_HOME") == str(
        home
    )
