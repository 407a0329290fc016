"""Resolves each docker/<image>/requirements.txt into the requirements.lock beside it: `make lock`.

An image gets a subset of the one lock, and what its parent has already does not stand in it again. An image's
requirements name what its programs import; the lock names that and everything that it needs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from recipe import ROOT, Recipe, recipes

HEAD = "# Written by `make lock`: the part of ../../requirements.lock that this image adds.\n"


def lock(uv: str, one: Recipe) -> None:
    """Writes the lock of one image, if it has requirements of its own."""
    wanted = requirements(one)
    own = ROOT / "docker" / one.name / "requirements.lock"
    if own.with_suffix(".txt") not in wanted:
        return
    parents = resolved(uv, wanted[:-1]) if wanted[:-1] else []
    # other conditions than the version of Python hold in every image
    there = {line.partition(" ;")[0] for line in parents if "python_full_version" not in line} | set(parents)
    added = [line for line in resolved(uv, wanted) if not {line, line.partition(" ;")[0]} & there]
    own.write_text(HEAD + "".join(f"{line}\n" for line in added))


def requirements(one: Recipe) -> list[Path]:
    """What it is made of by name: its parents' files, then its own."""
    own = ROOT / "docker" / one.name / "requirements.txt"
    return [*(requirements(one.parent) if one.parent else []), *([own] if own.is_file() else [])]


def resolved(uv: str, wanted: list[Path]) -> list[str]:
    """All packages that these files come to, as the one lock has them, on any platform an image has."""
    done = subprocess.run(
        [
            *(uv, "pip", "compile", *map(str, wanted), "--constraint", str(ROOT / "requirements.lock")),
            *("--universal", "--python-version", "3.11", "--no-annotate", "--no-header", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        sys.exit(done.stderr)
    # torch brings the CUDA packages of its own build, or none
    cuda = ("nvidia-", "triton", "cuda-")
    keep = [
        line
        for line in done.stdout.splitlines()
        if line.startswith("nvidia-ml-py==") or not line.startswith(cuda)
    ]
    return [line for line in keep if "win32" not in line or "!= 'win32'" in line]


if __name__ == "__main__":
    for each in recipes():
        lock(sys.argv[1], each)
