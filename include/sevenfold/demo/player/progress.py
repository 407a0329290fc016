"""How far the player has come, so that no row is asked twice and no label is forgotten."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

from sevenfold.secrets import private_folder, write_private


class Progress:
    """A file that says until when each day was played, and until when labels were returned."""

    def __init__(self, file: Path) -> None:
        private_folder(file.parent)
        self._file = file
        kept = json.loads(file.read_text()) if file.exists() else {"days": {}, "labels_until": None}
        self.days = {date.fromisoformat(day): datetime.fromisoformat(at) for day, at in kept["days"].items()}
        self.labels_until = datetime.fromisoformat(kept["labels_until"]) if kept["labels_until"] else None

    def reached(self, day: date, start: datetime) -> datetime:
        """Until when `day` (in UTC) was played, at least `start`."""
        return max(start, self.days.get(day, start))

    def save(self) -> None:
        """Writes the file, whole."""
        days = {day.isoformat(): at.isoformat() for day, at in sorted(self.days.items())}
        until = self.labels_until.isoformat() if self.labels_until else None
        write_private(self._file, json.dumps({"days": days, "labels_until": until}))
