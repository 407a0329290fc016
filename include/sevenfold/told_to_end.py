"""How programs are told to end: by SIGTERM, or Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a program that SIGTERM has ended, as a shell and a kubelet count it."""


def told_to_end() -> threading.Event:
    """Set when this process is told to end; it then does so in its own time. Called in the main thread."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told


def ends_when_told() -> None:
    """SIGTERM ends this process in a container, too, where it is the first one.

    (The first process gets no signal that it does not handle: without this a pod that is deleted works on
    until its grace period is over, beside the next try.)
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
