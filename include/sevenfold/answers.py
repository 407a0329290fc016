"""What callers got, by candidate: the gateway's access log counted in spans of time.

The prediction log knows only requests that were answered; the gateway's log also has those that were not.
Envoy writes it up to a second late, so a span is counted a little after its end.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from sevenfold.rollout import Arm

FILE = "gateway-access.jsonl"
FLUSH = timedelta(seconds=1.5)
"""After this a request that has been answered stands in the log."""


@dataclass(frozen=True)
class Answer:
    """One request as its caller saw it."""

    at: datetime
    candidate: str
    purpose: str
    """live, or the slot of a deployment that is tried."""
    status: int
    milliseconds: float
    route: str
    path: str


class AccessLog:
    """Follows the gateway's access log of one model's inference requests, from the moment it is opened.

    It begins `back` bytes before the end.

    With `refused` it also has those that the gateway itself answered, whose candidate is empty: no key, or
    nobody there to ask.
    """

    def __init__(self, logs: Path, model: str, *, refused: bool = False, back: int = 0) -> None:
        self._file = logs / FILE
        self._path = f"/v2/models/{model}/"
        self._refused = refused
        self._position = max(0, self._size() - back)
        self._rest = b""
        self._answers: list[Answer] = []

    def between(self, start: datetime, end: datetime) -> list[Answer]:
        """The requests that arrived with start <= time < end; waits until the log must hold them all."""
        time.sleep(max(0.0, (end + FLUSH - datetime.now(UTC)).total_seconds()))
        self._read()
        found = [answer for answer in self._answers if start <= answer.at < end]
        self._answers = [answer for answer in self._answers if answer.at >= end]
        return found

    def newest(self) -> list[Answer]:
        """Everything that has come into the log since the last time."""
        self._read()
        found, self._answers = self._answers, []
        return found

    def last(self) -> datetime | None:
        """When the newest request that is in the log and not counted yet arrived."""
        self._read()
        return max((answer.at for answer in self._answers), default=None)

    def _size(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def _read(self) -> None:
        if self._size() < self._position:
            self._position, self._rest = 0, b""  # a new file of the same name
        if not self._file.exists():
            return
        with self._file.open("rb") as opened:
            opened.seek(self._position)
            read = opened.read()
        self._position += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        self._answers += [answer for line in lines if (answer := self._parsed(line)) is not None]

    def _parsed(self, line: bytes) -> Answer | None:
        try:
            entry: dict[str, Any] = orjson.loads(line)
            path = entry["path"].partition("?")[0]
            if self._path not in path or not path.endswith("/infer"):
                return None
            if entry["cluster"] is None and not self._refused:
                return None
            candidate, _, purpose = (entry["cluster"] or "").rpartition(".")
            at = datetime.fromisoformat(entry["t"])
            status, milliseconds = int(entry["status"]), float(entry["us"] or 0) / 1e3
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return None
        return Answer(at, candidate, purpose, status, milliseconds, entry.get("route") or "", path)


def count(answers: list[Answer], slow_ms: float) -> dict[str, Arm]:
    """Requests, errors and slow ones of each candidate. Whatever is not a 200 is an error."""
    arms: dict[str, Arm] = defaultdict(Arm)
    for answer in answers:
        wrong, slow = answer.status != 200, answer.milliseconds > slow_ms
        arms[answer.candidate] += Arm(1, int(wrong), int(slow))
    return dict(arms)
