"""What callers got, by candidate: the access logs of the gateways counted in spans of time.

The prediction log knows only requests that were answered; a gateway's log also has those that were not.
Envoy writes it up to a second late, and a disk that nodes share shows it later still. So whoever counts a
span has the gateways log a mark after its end, and counts when the marks have come.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import orjson

from sevenfold.errors import SevenfoldError
from sevenfold.release.rollout import Arm
from sevenfold.serving import log_files

FOLDER = "gateway-access"
"""Below the folder of logs: each gateway's files (see log_files)."""
FLUSH = timedelta(seconds=1.5)
"""After this a request that has been answered stands in the log of an idle machine; for who has no marks."""
CALLERS = "production"
"""The gateway that callers ask, where each environment has one: preproduction's is probed by us alone."""
MARK = "/healthz?mark="
"""Where a gateway is asked for a line that says: what was answered before stands above."""
MARKS_LIMIT_S = 120.0
"""A client of NFS sees new files of a folder after a minute at the latest."""
LONGEST_REQUEST = timedelta(seconds=30)
"""A request stands in the log when it has ended, which takes less than this."""
CLOCKS = timedelta(minutes=1)
"""By so much the clocks of gateways and of the disk that they share may differ."""
_CHUNK = 1 << 20
_ASLEEP_S = 3600.0
"""A file that nobody has written to for so long is not opened to see whether it has grown."""


class LogLate(SevenfoldError):
    """What a gateway has logged does not come to where it is read."""

    retry = True


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
    replica: str = ""
    """Where the replica that was asked last listens."""


class AccessLog:
    """Follows one model's inference requests in the access logs of all gateways, from when it is opened.

    Args:
        logs: the folder of all logs, `settings().logs`.
        model: whose requests.
        refused: those too that the gateway of callers itself answered, whose candidate is empty: no key, or
            nobody there to ask.
        since: what was asked from then on too (and some of what was asked before).
        most: bytes of what is there already that are read, the newest of each gateway.
        marks: has each gateway log a mark, and returns them.
    """

    def __init__(
        self,
        logs: Path,
        model: str,
        *,
        refused: bool = False,
        since: datetime | None = None,
        most: float = inf,
        marks: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self._folder = logs / FOLDER
        self._path = f"/v2/models/{model}/"
        self._refused = refused
        self._positions = _positions(log_files.files(self._folder), since, most)
        self._rest: dict[Path, bytes] = {}
        self._answers: list[Answer] = []
        self._marks, self._marked = marks, set[str]()
        self._spans: list[tuple[datetime, datetime]] = []

    def between(self, start: datetime, end: datetime) -> list[Answer]:
        """The requests that arrived with start <= time < end; waits until all that have ended are there.

        One that ended later, such as one that nobody answered in time, comes with the next span.

        Raises:
            LogLate: what was logged does not come.
        """
        wait = end if self._marks else end + FLUSH
        time.sleep(max(0.0, (wait - datetime.now(UTC)).total_seconds()))
        self.settle()
        self._spans = [span for span in self._spans if span[1] > start - LONGEST_REQUEST]
        self._spans.append((start, end))
        found = [one for one in self._answers if any(first <= one.at < last for first, last in self._spans)]
        self._answers = [answer for answer in self._answers if answer.at >= end]
        return found

    def settle(self) -> None:
        """Reads all that was logged before now.

        Raises:
            LogLate: a mark that a gateway has logged does not come.
        """
        wanted = set(self._marks()) if self._marks else set()
        until = time.monotonic() + MARKS_LIMIT_S
        self._read()
        while not wanted <= self._marked:
            if time.monotonic() > until:
                raise LogLate(
                    f"what a gateway has logged did not come to {self._folder} within {MARKS_LIMIT_S:.0f} s: "
                    "is it the same volume for both?"
                )
            time.sleep(0.1)
            self._read()
        self._marked.clear()

    def newest(self) -> list[Answer]:
        """Everything that has come into the log since the last time."""
        self._read()
        found, self._answers = self._answers, []
        return found

    def last(self) -> datetime | None:
        """When the newest request that is in the log and not counted yet arrived."""
        self._read()
        return max((answer.at for answer in self._answers), default=None)

    def _read(self) -> None:
        for file in log_files.files(self._folder):
            for line in self._lines(file):
                if (answer := self._parsed(line)) is not None:
                    self._answers.append(answer)

    def _lines(self, file: Path) -> Iterator[bytes]:
        """What has come into a file since the last time, in whole lines."""
        position = self._positions.get(file, 0)
        try:
            about = file.stat()
            if about.st_size == position and about.st_mtime < time.time() - _ASLEEP_S:
                return
            with file.open("rb") as opened:
                opened.seek(position)
                while read := opened.read(_CHUNK):
                    *lines, self._rest[file] = (self._rest.get(file, b"") + read).split(b"\n")
                    self._positions[file] = opened.tell()
                    yield from lines
        except FileNotFoundError:
            return  # it was too old

    def _parsed(self, line: bytes) -> Answer | None:
        try:
            entry: dict[str, Any] = orjson.loads(line)
            path, _, asked = entry["path"].partition("?")
            if f"{path}?{asked}".startswith(MARK):
                self._marked.add(asked.partition("=")[2])
                return None
            if self._path not in path or not path.endswith("/infer"):
                return None
            callers = entry.get("gateway", CALLERS) == CALLERS
            if entry["cluster"] is None and not (self._refused and callers):
                return None
            candidate, _, purpose = (entry["cluster"] or "").rpartition(".")
            at = datetime.fromisoformat(entry["t"])
            status, milliseconds = int(entry["status"]), float(entry["us"] or 0) / 1e3
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return None
        return Answer(
            at,
            candidate,
            purpose,
            status,
            milliseconds,
            entry.get("route") or "",
            path,
            entry.get("host") or "",
        )


def _positions(files: list[Path], since: datetime | None, most: float) -> dict[Path, int]:
    """Where to begin in each file that is there."""
    found, left = {}, dict.fromkeys(map(log_files.writer, files), most)
    for file in reversed(files):  # the newest of a writer first
        try:
            about = file.stat()
        except FileNotFoundError:
            continue  # it was too old
        writer, wanted = log_files.writer(file), 0
        if since is not None and about.st_mtime >= (since - CLOCKS).timestamp():
            wanted = int(min(about.st_size, left[writer]))
            left[writer] -= wanted
        found[file] = about.st_size - wanted
    return found


def count(answers: list[Answer], slow_ms: float) -> dict[str, Arm]:
    """Requests, errors and slow ones of each candidate. Whatever is not a 200 is an error."""
    arms: dict[str, Arm] = defaultdict(Arm)
    for answer in answers:
        wrong, slow = answer.status != 200, answer.milliseconds > slow_ms
        arms[answer.candidate] += Arm(1, int(wrong), int(slow))
    return dict(arms)
