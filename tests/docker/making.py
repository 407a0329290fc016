"""What docker/make knows of the images, for the tests: docker/ is no package, PyPI has one of that name."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "docker" / "make"))

import recipe  # noqa: E402

__all__ = ["ROOT", "held", "locked", "needed", "recipes", "requirements"]


OF_TORCH = ("cuda-", "nvidia-", "triton")
"""How packages are called that torch brings of its own build, or none: they are in no lock."""
FILES_ONLY = {
    entry["name"]
    for entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["dependency-metadata"]
}
"""Packages of which an image has the files, and nothing that their module would import."""


@cache
def recipes() -> tuple[Any, ...]:
    """All images of the repository."""
    return tuple(recipe.recipes())


def lineage(image: str) -> Iterator[str]:
    """The image and what it is made from."""
    one = next(one for one in recipes() if one.name == image)
    while one is not None:
        yield one.name
        one = one.parent


def requirements(image: str) -> list[Requirement]:
    """What it is made of by name, its parents' too."""
    return _read(image, "requirements.txt")


def locked(image: str) -> list[Requirement]:
    """What is installed in it, its parents' too."""
    return _read(image, "requirements.lock")


@cache
def held(image: str) -> frozenset[str]:
    """The distributions that an image has: what its lock names, and what the torch that is here brings."""
    brought = {one for one in needed(image) if one.startswith(OF_TORCH)}
    return frozenset(brought | {canonicalize_name(one.name) for one in locked(image)})


@cache
def needed(image: str) -> frozenset[str]:
    """What the requirements of an image name, and what these need, as what is installed here says."""
    todo = requirements(image)
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        for extra in ("", *wanted.extras):
            if (key := (canonicalize_name(wanted.name), extra)) in seen:
                continue
            seen.add(key)
            try:
                of_it = [Requirement(line) for line in requires(wanted.name) or []]
            except PackageNotFoundError:
                continue
            if canonicalize_name(wanted.name) in FILES_ONLY:
                continue
            todo += [one for one in of_it if one.marker is None or one.marker.evaluate({"extra": extra})]
    return frozenset(distribution for distribution, _ in seen)


def _read(image: str, file: str) -> list[Requirement]:
    paths = (ROOT / "docker" / name / file for name in lineage(image))
    lines = (line.split("#")[0].strip() for path in paths if path.is_file() for line in path.open())
    found = (Requirement(line) for line in lines if line)
    return [one for one in found if one.marker is None or one.marker.evaluate()]
