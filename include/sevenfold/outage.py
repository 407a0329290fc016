"""Ways to a dependency that can be cut, so that it is down for one process and for nobody else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import make_url

CHUNK = 1 << 16


class Wire:
    """Forwards connections from a port of its own on loopback to `address`, until it is cut."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Closes all connections and refuses new ones."""
        for one in (self._listener, *list(self._open)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._address, timeout=10)
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Service:
    """A service by its URL, over a wire."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._wire = Wire((parts.hostname or "127.0.0.1", parts.port or 80))
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._wire.port}"))

    def cut(self) -> None:
        """From now on nothing answers at `url`."""
        self._wire.cut()


class EvidenceDatabase:
    """The evidence database by another address: over a wire if it is PostgreSQL, else by a link to a file."""

    def __init__(self, url: str, folder: Path) -> None:
        parts = make_url(url)
        self._wire, self._link = None, folder / "evidence.db"
        if parts.get_backend_name() == "postgresql":
            self._wire = Wire((parts.host or "127.0.0.1", parts.port or 5432))
            parts = parts.set(host="127.0.0.1", port=self._wire.port)
            self.url = parts.render_as_string(hide_password=False)
        else:
            self._link.symlink_to(Path(parts.database or "").absolute())
            self.url = f"sqlite:///{self._link}"

    def cut(self) -> None:
        """From now on the database cannot be reached at `url`."""
        if self._wire is not None:
            self._wire.cut()
            return
        nowhere = self._link.with_name("nowhere")
        nowhere.symlink_to(self._link.parent / "gone" / "evidence.db")
        os.replace(nowhere, self._link)  # noqa: PTH105 - a link, not what it points to


@contextmanager
def over_wire(url: str) -> Iterator[Service]:
    """A service over a wire that is gone in the end."""
    service = Service(url)
    try:
        yield service
    finally:
        service.cut()
