"""Real rows followed through the live pipeline: what was sent, logged, given back and joined since a moment.

The logs of a model grow for ever and others write to them at the same time. A trace remembers how long they
are, and takes what was added since into a folder of its own, where monitoring's code reads it like any logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.monitoring import joined
from sevenfold.serving import log

Window = tuple[datetime, datetime]


def newest_day(as_of: datetime) -> Window:
    """The last whole day (UTC) before `as_of`."""
    end = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return end - timedelta(days=1), end


@dataclass(frozen=True)
class Trace:
    """What one candidate's servers have added to the logs, in `folder`; only answers of `arm` count."""

    folder: Path
    model: str
    candidate: str
    arm: str
    lengths: dict[Path, int]
    logs: Path

    @classmethod
    def begin(cls, folder: Path, logs: Path, model: str, candidate: str, arm: str) -> Trace:
        """From now on."""
        made = cls(folder, model, candidate, arm, {}, logs)
        made.lengths.update({file: file.stat().st_size for file in made._files()})
        return made

    def collect(self) -> None:
        """Takes what was added; may be called again."""
        for file in self._files():
            before, size = self.lengths.get(file, 0), file.stat().st_size
            if size == before:
                continue
            copy = self.folder / file.relative_to(self.logs)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with file.open("rb") as source, copy.open("wb") as target:
                head = source.readline()  # of predictions it names the columns
                if before and head.startswith(b'{"columns":'):
                    target.write(head)
                source.seek(before)
                target.write(source.read(size - before))

    def logged(self, window: Window) -> pa.Table:
        """What was answered about rows of the window."""
        found = log.predictions(self.folder, self.model, self.candidate, *window)
        return found.filter(pc.equal(found["arm"], self.arm))

    def labels(self) -> pa.Table:
        """Labels that came back: id, label, known_at, wall."""
        return log.feedback(self.folder, self.model)

    def joined(self, as_of: datetime, maturity: timedelta) -> pa.Table:
        """The table that monitoring reads: answers joined with their labels, as known `as_of`."""
        days = self.folder / "joined"
        joined.update(days, self.folder, self.model, as_of, maturity)
        return joined.read(days, as_of, maturity, arms=(self.arm,))

    def _files(self) -> list[Path]:
        predictions = self.logs / "predictions" / self.model / self.candidate
        return sorted([*predictions.glob("*.jsonl"), *(self.logs / "feedback" / self.model).glob("*.jsonl")])
