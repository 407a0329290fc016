"""How programs that run as long as they may are told to end: by SIGTERM, or Ctrl-C."""

from __future__ import annotations

import signal
import threading


def told_to_end() -> threading.Event:
    """Set when this process is told to end; it then does so in its own time. Called in the main thread."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told
