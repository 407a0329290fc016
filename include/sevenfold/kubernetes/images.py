"""Which image a name means: the one settings file that `make images` writes.

The file is a kustomize component, so manifests take their images from it too. A pod has no such file: whoever
starts it gives it the references, in SEVENFOLD_IMAGES.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sevenfold import strict_yaml
from sevenfold.settings import Settings, settings

PREFIX = "sevenfold/"
"""What stands before an image's name in manifests, and in its reference until it is pushed elsewhere."""

OF_A_CANDIDATE = ("activities", "loadtest", "quality", "security", "server", "trainer")
"""Images whose programs make, judge or serve candidates; the others may change without changing any."""


class Image(BaseModel):
    """An entry of kustomize's `images`: what a name in a manifest is replaced by."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=f"^{PREFIX}[a-z]+$")
    newName: str = Field(min_length=1)  # kustomize's words
    newTag: str = ""
    digest: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$")

    @property
    def reference(self) -> str:
        """By digest where there is one: it can never come to mean another image."""
        return f"{self.newName}@{self.digest}" if self.digest else f"{self.newName}:{self.newTag or 'latest'}"


class Component(BaseModel):
    """The settings file; what it says besides images is for kustomize only."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["Component"]
    images: list[Image]


def read(path: Path) -> dict[str, str]:
    """Image name to full reference, as the file says.

    Raises:
        InvalidFile: there is no such file, or it is not what `make images` writes.
    """
    component = strict_yaml.read(path, Component)
    return {image.name.removeprefix(PREFIX): image.reference for image in component.images}


def references(here: Settings | None = None) -> dict[str, str]:
    """Image name to full reference, by what this process was given, else by the settings file."""
    here = here or settings()
    return here.images or (read(here.images_file) if here.images_file.is_file() else {})


def version(reference: str) -> str:
    """What tells an image from others of its name: the digest, else the tag."""
    name, _, digest = reference.partition("@")
    return digest or name.rpartition("/")[2].partition(":")[2] or "latest"


def moved(reference: str, registry: str, tag: str) -> str:
    """The same image in another registry, or under another tag; empty leaves either as it is."""
    name, at, digest = reference.partition("@")
    folder, _, last = name.rpartition("/")
    own, colon, own_tag = last.partition(":")
    which = f":{tag}" if tag else f"{colon}{own_tag}{at}{digest}"
    return f"{registry or folder}/{own}{which}"


def of_a_candidate(here: Settings | None = None) -> dict[str, str]:
    """Image name to digest (or content tag) of the images that a candidate depends on."""
    found = references(here)
    return {name: version(found[name]) for name in OF_A_CANDIDATE if name in found}
