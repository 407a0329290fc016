"""Where Unix sockets live: their paths may have 107 bytes only, and a home may be longer than that."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import tempfile
from pathlib import Path

from sevenfold.errors import SevenfoldError
from sevenfold.secrets import private_folder

LONGEST = 85
"""Longest folder: 107 bytes less a name, and less what servers append while they make the socket."""


class UnsafeFolder(SevenfoldError):
    """A folder for sockets that others could have made or could enter."""


def socket_folder(home: Path) -> Path:
    """The private folder of `home`'s sockets: `<home>/run`, or a short one that `<home>/run/sockets` records.

    Raises:
        UnsafeFolder: the short folder is not ours alone.
    """
    run = private_folder(home / "run")
    if len(os.fsencode(run)) <= LONGEST:
        return run
    record = run / "sockets"
    if not record.is_symlink():
        name = f"sevenfold-{os.getuid()}-{hashlib.sha256(os.fsencode(run)).hexdigest()[:12]}"
        short = next(
            folder / name
            for folder in (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 - checked below
            if len(os.fsencode(folder / name)) <= LONGEST
        )
        temporary = run / f".sockets.{os.getpid()}"
        temporary.symlink_to(short)
        temporary.replace(record)
    return _private(record.readlink())


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UnsafeFolder(
            f"{folder} must be a folder that only its owner {os.getuid()} can enter: remove it"
        )
    return folder


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with a time limit in seconds."""

    def __init__(self, path: Path, limit: float) -> None:
        super().__init__("localhost", timeout=limit)
        self._path = str(path)

    def connect(self) -> None:
        """Opens the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
