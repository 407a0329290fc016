"""The logs that Envoy writes: it opens a link, and the link leads to a file of at most a day.

A new file is a new link and a call of Envoy's /reopen_logs. Whoever is killed in between has only put that
off: Envoy goes on in the file before, which readers follow as well.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from sevenfold.secrets import private_folder
from sevenfold.serving import log_files
from sevenfold.serving.log_files import LARGEST, LONGEST


class LinkedLog:
    """One log of this gateway: a folder of files, and the link to the one that is written."""

    def __init__(self, folder: Path, link: Path) -> None:
        self._folder, self._link = folder, link

    @property
    def file(self) -> Path | None:
        """Where the link leads; None before the first."""
        try:
            return self._link.readlink()
        except FileNotFoundError:
            return None

    @property
    def taken(self) -> bool:
        """Whether Envoy has opened the file."""
        return self.file is not None and self._link.exists()

    def turn(self, now: datetime) -> None:
        """Begins a new file if there is none of this host, or if the one there is has its size or age."""
        if not self._mine() or self._full(now):
            self._begin(now)

    def _mine(self) -> bool:
        file = self.file
        return file is not None and (file.parent, log_files.writer(file)) == (self._folder, log_files.host())

    def _full(self, now: datetime) -> bool:
        if not self.taken or not (size := self._link.stat().st_size):
            return False
        return size >= LARGEST or now - log_files.since(self._link.readlink()) >= LONGEST

    def _begin(self, now: datetime) -> None:
        file = log_files.named(private_folder(self._folder), log_files.host(), now)
        half = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        half.unlink(missing_ok=True)
        half.symlink_to(file)
        half.replace(self._link)
