"""Log files by their writer and their first moment: `<writer>.<since>.jsonl`.

A writer begins a new file before a day is over, so that old ones can be deleted whole and nobody writes to
what is deleted. No file is renamed or cut: whoever follows a folder remembers how far each file was read, and
neither loses nor doubles a line.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

LONGEST = timedelta(hours=23)
"""For so long a file is written: less than the shortest time for which logs are kept."""
LARGEST = 64 << 20
"""Bytes after which a file that is read again and again is ended: some 150,000 requests at a gateway."""
_SINCE = "%Y%m%dT%H%M%S%fZ"


def host() -> str:
    """Who writes here: on a cluster the name of the pod."""
    return socket.gethostname()


def named(folder: Path, writer: str, since: datetime) -> Path:
    """The file that `writer` begins at this moment."""
    return folder / f"{writer}.{since.astimezone(UTC).strftime(_SINCE)}.jsonl"


def writer(file: Path) -> str:
    """Who wrote it."""
    return file.stem.rpartition(".")[0]


def since(file: Path) -> datetime:
    """When it was begun; the year 1 for a file that is not named so, which is older than the rule."""
    try:
        return datetime.strptime(file.stem.rpartition(".")[2], _SINCE).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def files(folder: Path) -> list[Path]:
    """The files of all writers, in order of their names."""
    return sorted(folder.glob("*.jsonl"))
