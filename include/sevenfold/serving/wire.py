"""HTTP/1.1 as a replica speaks it: a request is gathered whole and answered at once, in one piece.

httptools parses; nothing here waits for anything but bytes, so there is no task, no queue and no lock between
a request and its answer. A general ASGI server spends three times as long on a request as the model does
(tests/benchmarks/serving measures it), and writes the head of an answer and its body apart: a server killed
between the two leaves a caller, behind any proxy, with a head whose body never comes, and a head cannot be
taken back, so no retry helps. In one piece it is answered or not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools

Headers = Mapping[bytes, bytes]

KEEP_ALIVE_S = 75
"""Longer than any proxy keeps an idle connection, so that it is never us who closes under a request."""
MAX_HEAD = 64 << 10
"""Bytes of a request line and its headers."""
LINGER_S, LINGER_BYTES = 2.0, 8 << 20
"""How long, and for how much, a caller is listened to whose body was refused before its end: closed at once,
the connection would be reset, and the refusal lost with it."""
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Answer(NamedTuple):
    """Status, header lines (each with its line end) and body."""

    status: int
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(
        self,
        answer: Callable[[str, str, Headers, bytes], Answer],
        refuse: Callable[[int, str], Answer],
        max_body: int,
        connections: set[Connection],
    ) -> None:
        """
        Args:
            answer: answers a request: method, path, headers by lower-case name, body. It must not raise.
            refuse: the answer to what is no request, as a status and a sentence.
            max_body: bytes of a body; what is longer is refused without reading on.
            connections: all that are open; this one adds itself, and leaves when it is closed.
        """
        self._answer, self._refuse, self._max_body = answer, refuse, max_body
        self._connections = connections
        self._parser: Any = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._waits = True
        """Between two requests."""
        self._last = False
        """Closed after the next answer."""
        self._refused = 0
        """Bytes that came after a refusal, and 1: from then on nothing is parsed any more."""
        self.on_message_begin()
        self._waits = True

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts."""
        self._transport = transport
        self._connections.add(self)
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._connections.discard(self)
        self._parser = None  # it knows this connection: apart, both are freed at once
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Takes what has come; requests that are complete with it are answered before it returns."""
        self._heard = self._loop.time()
        if self._refused:
            self._refused += len(data)
            if self._refused > LINGER_BYTES:
                self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()  # the request is answered; no other protocol is spoken here
        except httptools.HttpParserError:
            self._end(400, "this is not a valid HTTP/1.1 request")
        if not self._waits and not self._in_body:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._end(431, f"the head of the request has more than {MAX_HEAD} bytes")

    def pause_writing(self) -> None:
        """A caller who does not read its answers is not asked for more requests."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._transport.resume_reading()

    def shutdown(self) -> None:
        """Closes: at once between two requests, else after the answer to the one that is under way."""
        self._last = True
        if self._waits:
            self._transport.close()

    def _look(self) -> None:
        """Closes when nothing has been heard for long; one timer a connection, not one a request."""
        left = self._heard + KEEP_ALIVE_S - self._loop.time()
        if left <= 0:
            self._transport.close()
        else:
            self._timer = self._loop.call_later(left, self._look)

    # httptools' side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._waits = self._in_body = False
        self._head_size = self._size = 0
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those behind the body are none of ours."""
        if not self._in_body:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The body follows."""
        self._in_body = True
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            self._end(413, f"the body has {length.decode()} bytes; at most {self._max_body} are taken")
        elif b"expect" in self._headers and self._headers[b"expect"].lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        self._parts.append(body)
        self._size += len(body)
        if self._size > self._max_body:
            self._end(413, f"the body has more than {self._max_body} bytes")

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._refused:
            return
        self._waits = True
        method = self._parser.get_method().decode("ascii")
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        answer = self._answer(method, _path(self._url), self._headers, body)
        keep = not self._last and self._parser.should_keep_alive()
        self._write(answer, keep, with_body=method != "HEAD")

    def _write(self, answer: Answer, keep: bool, with_body: bool = True) -> None:
        if self._transport.is_closing():
            return
        status, head, body = answer
        length = b"content-length: " + str(len(body)).encode()
        end = b"\r\n\r\n" if keep else b"\r\nconnection: close\r\n\r\n"
        parts = (_STATUS[status], _date(), head, length, end, body if with_body else b"")
        self._transport.write(b"".join(parts))
        if not keep and not self._refused:
            self._transport.close()

    def _end(self, status: int, sentence: str) -> None:
        """Refuses, and closes when the caller has had time to read it."""
        if not self._refused:
            self._refused = 1
            self._write(self._refuse(status, sentence), keep=False)
            self._loop.call_later(LINGER_S, self._transport.close)


@lru_cache
def _path(url: bytes) -> str:
    """The path of a request's address, decoded, without its query; callers ask for few of them."""
    if not url.startswith(b"/"):  # as a proxy is asked: with scheme and host
        try:
            url = httptools.parse_url(url).path or b"/"
        except httptools.HttpParserInvalidURLError:
            return url.decode("latin-1")
    path = url.partition(b"?")[0].decode("latin-1")
    return unquote(path) if "%" in path else path


_now = (0, b"")


def _date() -> bytes:
    """The header Date, made once a second."""
    global _now
    second = int(time.time())
    if _now[0] != second:
        _now = second, f"date: {formatdate(second, usegmt=True)}\r\n".encode()
    return _now[1]
