"""What goes into an image: its Dockerfile, its packages, the files it copies; and the hash over all of that.

Nothing else can go in, for an image is built in a folder that holds exactly these files.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PARENT = re.compile(r"^FROM \$\{([A-Z]+)\}$", re.MULTILINE)
_COPIED = re.compile(r"^COPY (?!--from=)(.+) \S+$", re.MULTILINE)
_MOUNTED = re.compile(r"--mount=type=bind,source=([^,]+),")


@dataclass(frozen=True)
class Commit:
    """Of which commit files are, when that was, and which of them differ from it."""

    hash: str
    time: str
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """How one image is made; `parent` is the image of ours that it is made from."""

    name: str
    parent: Recipe | None
    root: Path = ROOT

    @property
    def dockerfile(self) -> Path:
        return self.root / "docker" / self.name / "Dockerfile"

    @cached_property
    def text(self) -> str:
        return self.dockerfile.read_text()

    @property
    def runs(self) -> bool:
        """Whether anything runs it; the others are there to be built from."""
        return "\nENTRYPOINT" in self.text or "\nCMD" in self.text

    @property
    def description(self) -> str:
        """The first line of the Dockerfile."""
        return self.text.splitlines()[0].lstrip("# ")

    @cached_property
    def code(self) -> tuple[str, ...]:
        """Files and folders that it copies."""
        return tuple(name.rstrip("/") for line in _COPIED.findall(self.text) for name in line.split())

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All files that it is made of, in the order of their names."""
        return tuple(
            sorted({self.dockerfile, *_files(self.root, (*self.code, *_MOUNTED.findall(self.text)))})
        )

    @cached_property
    def commit(self) -> Commit:
        """The newest commit that changed what it copies; of a folder without git a hash of the files."""
        where = (*self.code, *_not_copied(self.root, ":(exclude)")) if self.code else ()
        said = _git(self.root, "log", "-1", "--format=%H %cI", "--", *where) if where else None
        said = said or _git(self.root, "log", "-1", "--format=%H %cI")
        if not said:
            return Commit(f"files-{self._hash('')[:40]}", "", ())
        found, time = said.split()
        status = (
            _git(self.root, "status", "--porcelain", "--untracked-files=all", "--", *where) if where else ""
        )
        return Commit(found, time, tuple(line[3:] for line in (status or "").splitlines()))

    def key(self, base: str) -> str:
        """Twelve hex digits that change with anything that goes in, `base` and the parent included."""
        return self._hash(self.parent.key(base) if self.parent else base)[:12]

    def put_into(self, folder: Path) -> None:
        """Copies all its files there."""
        for path in self.files:
            target = folder / path.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)

    def _hash(self, parent: str) -> str:
        digest = hashlib.sha256(parent.encode())
        for path in self.files:
            executable = b"x" if path.stat().st_mode & 0o100 else b"-"
            digest.update(str(path.relative_to(self.root)).encode() + b"\0" + executable)
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        if self.code and parent:
            digest.update("\0".join((self.commit.hash, *self.commit.changed)).encode())
        return digest.hexdigest()


@cache
def recipes(root: Path = ROOT) -> tuple[Recipe, ...]:
    """All images in docker/, each after the one that it is made from."""
    names = sorted(path.parent.name for path in (root / "docker").glob("*/Dockerfile"))
    known: dict[str, Recipe] = {}

    def of(name: str) -> Recipe:
        if name not in known:
            text = (root / "docker" / name / "Dockerfile").read_text()
            parents = [arg.lower() for arg in _PARENT.findall(text) if arg.lower() in names]
            known[name] = Recipe(name, of(parents[-1]) if parents else None, root)
        return known[name]

    for name in names:
        of(name)
    return tuple(known.values())


def _files(root: Path, names: tuple[str, ...]) -> set[Path]:
    """The files of these files and folders that git knows or would, less what no image gets."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names)
    if listed is None or not names:
        found = {path for name in names for path in (root / name, *(root / name).rglob("*"))}
    else:
        found = {root / name for name in listed.split("\0") if name}
    kept_out = tuple(root / name for name in _not_copied(root))
    return {
        path
        for path in found
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(path.is_relative_to(folder) for folder in kept_out)
    }


def _not_copied(root: Path, prefix: str = "") -> tuple[str, ...]:
    """The folders that .dockerignore keeps out of every image."""
    lines = (root / ".dockerignore").read_text().splitlines()
    return tuple(prefix + line for line in lines if line and line[0] not in "#!*")


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
