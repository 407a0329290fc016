"""A caller of a ServingApp over its real HTTP side, without a socket."""

from __future__ import annotations

import asyncio
import http.client
import io
from typing import Any

import httpx

from sevenfold.serving.app import ServingApp
from sevenfold.serving.protocol import MAX_BODY
from sevenfold.serving.wire import Connection


class Transport:
    """Remembers what a connection writes, and whether it closed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.aborted = self.paused = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def connect(app: ServingApp) -> tuple[Connection, Transport]:
    """A new connection to `app`. A loop has to run."""
    transport = Transport()
    connection = Connection(app.answer, app.refuse, MAX_BODY, set())
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


def answers(written: bytes, *methods: str) -> list[httpx.Response]:
    """The answers, one a request, in what a connection wrote."""
    file = io.BytesIO(written)

    class Socket:
        def makefile(self, *_: Any) -> io.BytesIO:
            return file

    found = []
    for method in methods:
        told = http.client.HTTPResponse(Socket(), method=method)  # type: ignore[arg-type]
        told._close_conn = lambda: None  # type: ignore[attr-defined] # the next answer follows in the same file
        told.begin()
        found.append(httpx.Response(told.status, headers=told.getheaders(), content=told.read()))
    return found


def call(app: ServingApp, method: str, path: str, **more: Any) -> httpx.Response:
    """One request as httpx would send it; a body in parts stops when it is refused."""
    request = httpx.Request(method, f"http://here{path}", **more)

    async def ask() -> httpx.Response:
        connection, transport = connect(app)
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        head = f"{method} {request.url.raw_path.decode()} HTTP/1.1\r\n{headers}\r\n"
        connection.data_received(head.encode())
        in_parts = "transfer-encoding" in request.headers
        for part in request.stream:  # type: ignore[union-attr]
            if transport.written:
                break
            connection.data_received(b"%x\r\n%b\r\n" % (len(part), part) if in_parts else part)
        if in_parts and not transport.written:
            connection.data_received(b"0\r\n\r\n")
        connection.connection_lost(None)
        return answers(b"".join(transport.written), method)[0]

    return asyncio.run(ask())
