"""Ways to a dependency that can be cut, so that it is down for one process and for nobody else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import URL

from sevenfold.evidence.database import database_url

CHUNK = 1 << 16
POSTGRESQL = "5432"


class Wire:
    """Forwards connections from a port of its own on loopback to `address`, until it is cut.

    `address` is a host and a port, or a Unix socket.
    """

    def __init__(self, address: tuple[str, int] | Path) -> None:
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
                    far = _connected(self._address)
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _connected(address: tuple[str, int] | Path) -> socket.socket:
    if not isinstance(address, Path):
        return socket.create_connection(address, timeout=10)
    far = socket.socket(socket.AF_UNIX)
    far.connect(str(address))
    return far


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
        parts = database_url(url)
        self._wire: Wire | None = None
        self._link = folder / "evidence.db"
        if parts.get_backend_name() == "postgresql":
            self.url = self._wired(parts).render_as_string(hide_password=False)
        else:
            self._link.symlink_to(Path(parts.database or "").absolute())
            self.url = f"sqlite:///{self._link}"

    def _wired(self, url: URL) -> URL:
        """The same database over a wire. The host keeps its name, for which its certificate is checked."""
        query = {name: value if isinstance(value, str) else value[0] for name, value in url.query.items()}
        first, _, own = (url.host or query.get("host") or "127.0.0.1").split(",")[0].partition(":")
        host, port = first, str(url.port or own or query.get("port", POSTGRESQL).split(",")[0])
        at = query.get("hostaddr", host).split(",")[0]
        on_socket = host.startswith("/")
        self._wire = Wire(Path(host) / f".s.PGSQL.{port}" if on_socket else (at, int(port)))
        there = {"host": "127.0.0.1", "sslmode": "disable"} if on_socket else {"host": host}
        return url.set(
            host=None,
            port=None,
            query=query | there | {"hostaddr": "127.0.0.1", "port": str(self._wire.port)},
        )

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
