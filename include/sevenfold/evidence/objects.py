"""Object storage: S3 and what speaks like it, Google Cloud Storage and Azure, by one library.

Endpoint and credentials come from the environment, by the usual variables (AWS_ACCESS_KEY_ID,
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL ...), or from the identity that a cloud gives to a pod.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sevenfold.errors import SevenfoldError

RETRIES, PATIENCE = 5, timedelta(seconds=30)
"""How often, and for how long, a request is tried again."""
LONGEST = 300
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class StorageUnavailable(SevenfoldError):
    """Object storage does not answer, lets us not in, or has no such bucket. Nothing half-written is left."""

    retry = True


class BadStorageUrl(SevenfoldError):
    """A URL of no storage that we know."""


class ObjectStorage:
    """The objects below a URL: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, name: str, content: Path | bytes) -> None:
        """Puts an object, in one step: nobody ever sees half of it, and the storage checks what it got."""
        import obstore

        with self._explained():
            try:
                obstore.put(self._store, name, content)
            except FileNotFoundError as error:
                raise StorageUnavailable(f"{self.url} cannot be written: {_said(error)}.") from error

    def read(self, name: str) -> bytes:
        """All bytes of an object, or FileNotFoundError."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an object, piece by piece, or FileNotFoundError."""
        import obstore

        with self._explained():
            try:
                yield from map(bytes, obstore.get(self._store, name).stream())
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise StorageUnavailable(f"{self.url} cannot be read: {_said(error)}.") from error
                raise

    def names(self) -> list[str]:
        """The names of all objects."""
        import obstore

        with self._explained():
            return sorted(one["path"] for page in obstore.list(self._store) for one in page)

    @cached_property
    def _store(self) -> Any:
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        scheme = urlsplit(self.url).scheme
        given: dict[str, Any] = {}
        if scheme != "memory":
            given["retry_config"] = {"max_retries": RETRIES, "retry_timeout": PATIENCE}
        if scheme == "s3":
            endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
            given |= {"endpoint": endpoint} if endpoint else {}
            given |= {"checksum_algorithm": "sha256"}
            given |= {"client_options": {"allow_http": endpoint.startswith("http://")}}
        try:
            return from_url(self.url, **given)
        except BaseError as error:
            raise BadStorageUrl(f"{self.url} is no URL of a storage, such as s3://bucket/prefix.") from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            raise StorageUnavailable(f"{self.url} cannot be used: {_said(error)}.") from error


def _said(error: Exception) -> str:
    """What the storage itself says, in one line."""
    text = str(error)
    message = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
    first = message.group(1) if message else text.splitlines()[0]
    return " ".join(first.split())[:LONGEST].rstrip(".")
