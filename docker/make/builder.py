"""The programs that build images, docker, podman and buildah: what they share, and where they differ."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("docker", "podman", "buildah")


HUB = "docker.io/library/"
"""What docker leaves out of the names of the hub's own images."""


@dataclass(frozen=True)
class Base:
    """The image that all others stand on: name with tag, and the digest that pins it."""

    name: str
    digest: str
    known_to_registry: bool = True

    @property
    def untagged(self) -> str:
        """The name alone."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(":")[0]

    @property
    def reference(self) -> str:
        """What a Dockerfile is told: not every builder takes a tag beside a digest."""
        return f"{self.untagged}@{self.digest}" if self.known_to_registry else self.name

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.known_to_registry else self.name


class Refused(Exception):
    """The builder did not do what it was asked; the message says what that was."""


class Builder:
    """One of them, by its name or path; `flags` go to every build."""

    def __init__(self, program: str, flags: Sequence[str] = ()) -> None:
        self.program, self.flags = program, list(flags)
        self.kind = next((kind for kind in KINDS if Path(program).name.startswith(kind)), "docker")

    @classmethod
    def found(cls, program: str, flags: Sequence[str] = ()) -> Builder:
        """The one that was asked for, or else the first that is there."""
        names = [program] if program else list(KINDS)
        for name in names:
            if shutil.which(name) and (program or name != "docker" or _engine_answers()):
                return cls(name, flags)
        raise Refused(
            f"none of {', '.join(names)} is here to build images with: install one, or name it: BUILDER=..."
        )

    def pinned(self, name: str) -> Base:
        """The base by its digest; it is pulled if it is not here.

        An image that came from no registry, one imported by hand, has none: its id stands in for it.
        """
        name, _, digest = name.partition("@")
        if digest:
            return Base(name, digest)
        if not self.has(name):
            self._run("pull", name)
        found = self._described(name) or {}
        for known in found.get("RepoDigests") or []:
            if known.partition("@")[0].removeprefix(HUB) == Base(name, "").untagged.removeprefix(HUB):
                return Base(name, known.partition("@")[2])
        if digest := found.get("FromImageDigest"):
            return Base(name, digest)
        return Base(name, found.get("Id") or "", known_to_registry=False)

    def has(self, reference: str) -> bool:
        """Whether the image is here already."""
        return self._described(reference) is not None

    def build(
        self,
        reference: str,
        context: Path,
        dockerfile: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> None:
        """Builds and tags one image; what the builder says is shown as it says it."""
        options = [*_each("--build-arg", arguments), *_each("--label", labels), *self.flags]
        # docker's own format: OCI's has no place for health checks
        kind = {"docker": ["build"], "podman": ["build", "--format", "docker"]}.get(
            self.kind, ["build", "--format", "docker", "--layers"]
        )
        self._run(*kind, "--file", str(context / dockerfile), "--tag", reference, *options, str(context))

    def push(self, reference: str) -> str:
        """Pushes it, and says the digest that the registry knows it by."""
        if self.kind == "docker":
            self._run("push", reference)
            name = reference.rpartition(":")[0]
            known = (self._described(reference) or {}).get("RepoDigests") or []
            found = [one.rpartition("@")[2] for one in known if one.rpartition("@")[0] == name]
            if not found:
                raise Refused(f"{reference} was pushed, but docker does not know its digest")
            return found[0]
        with tempfile.TemporaryDirectory() as folder:
            digest = Path(folder) / "digest"
            self._run("push", "--digestfile", str(digest), reference)
            return digest.read_text().strip()

    def save(self, reference: str, file: Path) -> None:
        """Writes it into a file that `ctr images import`, `kind load image-archive` and the like take."""
        file.unlink(missing_ok=True)
        if self.kind == "docker":
            self._run("save", "--output", str(file), reference)
        elif self.kind == "podman":
            self._run("save", "--format", "oci-archive", "--output", str(file), reference)
        else:
            self._run("push", reference, f"oci-archive:{file}:{reference}")

    def _described(self, reference: str) -> dict[str, Any] | None:
        """What the builder knows of an image, or None if it has no such image."""
        asked = ["inspect", "--type", "image"] if self.kind == "buildah" else ["image", "inspect"]
        done = subprocess.run([self.program, *asked, reference], capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        said = json.loads(done.stdout)
        return dict(said[0] if isinstance(said, list) else said)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self.program, *arguments], stdout=sys.stderr, check=False)
        if done.returncode:
            raise Refused(
                f"{self.program} {arguments[0]} ended with exit code {done.returncode}; its words stand above"
            )


def _each(option: str, values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() if value for part in (option, f"{name}={value}")]


def _engine_answers() -> bool:
    """Whether docker has an engine: the client alone builds nothing."""
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
