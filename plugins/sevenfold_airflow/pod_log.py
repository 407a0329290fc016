"""What a container writes, read at intervals: each line once, none lost.

A cluster gives the lines of the last so many seconds, each with the time at which it was written. More is
asked for than is new, and what has been seen is left out by its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from datetime import datetime

from airflow.providers.cncf.kubernetes.utils.pod_manager import parse_log_line

OVERLAP_S = 30
"""So much is asked for again: an answer may come late."""


class PodLog:
    """One container's log.

    Args:
        after: the time of the newest line that has been seen, by the container's node; None if none has.
    """

    def __init__(self, after: datetime | None = None) -> None:
        self.after = after
        self._asked_at: float | None = None
        self._looked_at: float | None = None

    def seconds(self) -> int | None:
        """How many seconds of it to ask for now; None for all. By this machine's clock, not the node's."""
        self._asked_at = time.monotonic()
        return None if self._looked_at is None else math.ceil(self._asked_at - self._looked_at) + OVERLAP_S

    def unseen(self, lines: Iterable[str]) -> list[str]:
        """What is new in an answer, without the times; a line that has none goes with the one before."""
        found, before, new = [], self.after, self.after is None
        for line in lines:
            at, text = parse_log_line(line)
            if at is not None:
                self.after, new = at, before is None or at > before
            if new and text:
                found.append(text)
        self._looked_at = self._asked_at
        return found
