"""A lean HTTP client: a general one costs more CPU a request than gateway and server together."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from sevenfold.direct_http import trusted

LIMIT_S = 15.0
"""Longer than the gateway's own limit: it is the gateway that says why there is no answer."""


class Failed(Exception):
    """A request that got no answer; the message is one word of why."""


class Connection:
    """One kept connection to the gateway, opened when it is needed."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._tls = trusted() if address.scheme == "https" else None
        self._fixed = (
            f"host: {address.netloc}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, entity: str = "") -> tuple[int, dict[str, str]]:
        """Sends one request and returns status and headers of its answer.

        Raises:
            Failed: there was no answer in time, or the connection broke.
        """
        sticky = f"x-entity-id: {entity}\r\n" if entity else ""
        head = f"POST {path} HTTP/1.1\r\n{self._fixed}{sticky}content-length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._exchange(head.encode("latin-1", "replace") + body)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise Failed(type(error).__name__) from error

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, str]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        reader, writer = self._streams
        writer.write(request)
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(status_line.split(" ", 2)[1]), headers

    def close(self) -> None:
        """Closes the connection; the next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
