"""The artifact store: files by the sha256 of their bytes, and reports by the promotion they are about."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.objects import ObjectStorage
from sevenfold.settings import settings

CHUNK = 1 << 20


class MissingArtifact(SevenfoldError):
    """Nothing with this sha256 is in the store."""


class Altered(SevenfoldError):
    """The bytes in the store are not those that were put there."""


class BadArtifactName(SevenfoldError):
    """A name that would lie outside its folder."""


class Where(Protocol):
    """The part of a promotion that says where its reports lie."""

    @property
    def id(self) -> str: ...


class ArtifactStore:
    """Files below a URL: `file:///...` here, object storage on a cluster.

    `cache` is where files of a remote store are kept once they are fetched and verified.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url.rstrip("/")
        self._cache = cache
        scheme, separator, path = self.url.partition("://")
        self._folder = Path(path or scheme) if scheme == "file" or not separator else None
        self._remote = ObjectStorage(self.url)

    def put(self, content: Path | bytes) -> str:
        """Keeps a file or bytes and returns their sha256 (hex). The same bytes twice are kept once."""
        digest = _sha256(content)
        name = _place(digest)
        if self.sha256(name) != digest:
            self.write(name, content)
        return digest

    def get(self, digest: str) -> Path:
        """A local file whose bytes have this sha256, verified at each call.

        Raises:
            MissingArtifact: the store has none.
            Altered: it has other bytes in its place.
        """
        name = _place(digest)
        local = self._folder / name if self._folder else self._cache / name
        if not local.is_file() and not (self._folder is None and self._fetch(name, local)):
            raise MissingArtifact(f"The artifact store {self.url} has no file with sha256 {digest}.")
        found = _sha256(local)
        if found != digest:
            if self._folder is None:
                local.unlink()
            raise Altered(f"{local} has been altered: its sha256 is {found[:12]}, not {digest[:12]}.")
        return local

    def put_report(
        self, promotion: Where, activity: str, name: str, content: Path | bytes | str
    ) -> tuple[str, str]:
        """Keeps a report; returns its path below the store and its sha256 (hex). A retry replaces it.

        Raises:
            BadArtifactName: `name` points outside the report's folder.
        """
        body = content.encode() if isinstance(content, str) else content
        path = PurePosixPath("reports", promotion.id, activity, name)
        if ".." in path.parts or PurePosixPath(name).is_absolute() or not name:
            raise BadArtifactName(f"'{name}' is no name for a report of {activity} in {promotion.id}.")
        self.write(str(path), body)
        return str(path), _sha256(body)

    def read(self, path: str) -> bytes:
        """The bytes at a path below the store, such as a report's.

        Raises:
            MissingArtifact: there is nothing.
        """
        try:
            return (self._folder / path).read_bytes() if self._folder else self._remote.read(path)
        except FileNotFoundError as error:
            raise MissingArtifact(f"The artifact store {self.url} has no {path}.") from error

    def sha256(self, path: str) -> str | None:
        """The sha256 (hex) of the bytes at a path, as they lie there now; None where there is nothing."""
        try:
            if self._folder is not None:
                return _sha256(self._folder / path)
            digest = hashlib.sha256()
            for chunk in self._remote.chunks(path):
                digest.update(chunk)
            return digest.hexdigest()
        except FileNotFoundError:
            return None

    def paths(self) -> list[str]:
        """The paths of everything that is kept."""
        if self._folder is None:
            return self._remote.names()
        files = [path for path in self._folder.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self._folder)) for path in files if path.suffix != ".half")

    def write(self, path: str, content: Path | bytes) -> None:
        """Puts a file or bytes at a path: all of it or nothing, whatever was there before."""
        if self._folder is not None:
            _write_whole(self._folder / path, _chunks(content))
        else:
            self._remote.write(path, content)

    def _fetch(self, name: str, local: Path) -> bool:
        try:
            _write_whole(local, self._remote.chunks(name))
        except FileNotFoundError:
            return False
        return True


def open_artifacts(url: str | None = None, cache: Path | None = None) -> ArtifactStore:
    """The artifact store at `url`; settings().artifacts_url by default."""
    return ArtifactStore(url or settings().artifacts_url, cache or settings().home / "cache")


def _place(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk


def _write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """All of the file or nothing of it, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        with half.open("wb") as target:
            target.writelines(chunks)
            target.flush()
            os.fsync(target.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
