"""A mark in the access log of a gateway: a line below which nothing comes that was answered before it.

Envoy keeps what it logs back for a second, and a client of a network file system for longer. Both are over
when a line that was asked for stands in the file and the file has been synced: all lines above it are there,
too, for everybody who opens the file from then on. So nobody has to guess how long to wait (see answers).
"""

from __future__ import annotations

import http.client
import os
import secrets
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from sevenfold.errors import SevenfoldError
from sevenfold.gateway.envoy import soon
from sevenfold.monitoring.answers import MARK
from sevenfold.serving import log_files

ASK_S = 5.0
LIMIT_S = 10.0


class NotMarked(SevenfoldError):
    """The gateway does not log."""

    retry = True


def mark(url: str, log: Path) -> str:
    """Has a gateway of this machine log a mark, and returns it when it is on disk.

    Args:
        url: where it listens.
        log: the file to which it writes, or is about to: still to the one before, it may be.

    Raises:
        NotMarked: it does not answer, or does not log.
    """
    made = secrets.token_hex(8)
    before = {file: file.stat().st_size for file in _newest(log)}
    _ask(url, f"{MARK}{made}")
    found: list[Path] = []

    def stands_there() -> bool:
        found[:] = [file for file in _newest(log) if _holds(file, before.get(file, 0), made.encode())]
        return bool(found)

    if not soon(stands_there, LIMIT_S, 0.05):
        raise NotMarked(f"the gateway at {url} does not log to {log.parent}: is the disk full?")
    for file in {*found, *before}:
        _sync(file)
    return made


def _newest(log: Path) -> list[Path]:
    """The newest two files of the same writer that are there."""
    mine = log_files.writer(log)
    return [file for file in log_files.files(log.parent) if log_files.writer(file) == mine][-2:]


def _holds(file: Path, position: int, made: bytes) -> bool:
    with file.open("rb") as opened:
        opened.seek(position)
        return made in opened.read()


def _sync(file: Path) -> None:
    """What any process of this host has written there is on disk, not only what this one has."""
    opened = os.open(file, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _ask(url: str, path: str) -> None:
    address = urlsplit(url)
    host = "127.0.0.1" if address.hostname in (None, "0.0.0.0") else address.hostname  # noqa: S104
    connection = http.client.HTTPConnection(host, address.port or 80, timeout=ASK_S)
    if address.scheme == "https":
        anybody = ssl.create_default_context()  # its certificate is for callers' name of it
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, address.port or 443, timeout=ASK_S, context=anybody)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise NotMarked(f"the gateway at {url} does not answer: {error}") from error
    finally:
        connection.close()
