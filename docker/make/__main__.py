"""Builds the images in docker/ that have changed, and writes into one file which they are: `make images`.

An image's tag is a hash over everything that goes into it, so what is there under its tag is not built again.
Needs Python and a builder, and nothing else of Sevenfold.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import settings_file
from builder import Base, Builder, Refused
from recipe import ROOT, Recipe, recipes

BASE = "docker.io/library/python:3.11-slim-bookworm"


def main() -> int:
    given = arguments()
    try:
        builder = Builder.found(given.builder, flags(given))
        base = builder.pinned(given.base or settings_file.base() or BASE)
        print(f"base {base}", flush=True)
        if not base.known_to_registry:
            print("  it came from no registry, so nothing pins it but its id on this machine", flush=True)
        built = {
            one.name: image(builder, one, base, given)
            for one in recipes()
            if not given.only or one.name in _with_parents(given.only)
        }
    except Refused as why:
        print(f"images: {why}", file=sys.stderr)
        return 1
    settings_file.write(str(base), built)
    print(f"written to {settings_file.FILE.relative_to(ROOT)}")
    return 0


def image(builder: Builder, one: Recipe, base: Base, given: argparse.Namespace) -> str:
    """Builds one image unless it is there, pushes and saves it if asked; returns its full reference."""
    reference = named(one, base, given.registry)
    started = time.monotonic()
    if builder.has(reference):
        done = ["unchanged"]
    else:
        build(builder, one, reference, base, given)
        done = [f"built in {time.monotonic() - started:.0f} s"]
    if one.commit.changed and one.code:
        done.append(f"{len(one.commit.changed)} files are not committed: its candidates are refused")
    if given.save and one.runs:
        file = Path(given.save) / f"{one.name}.tar"
        file.parent.mkdir(parents=True, exist_ok=True)
        builder.save(reference, file)
        done.append(f"saved as {file}")
    if given.push and one.runs:
        reference = reference.rpartition(":")[0] + "@" + builder.push(reference)
        done.append("pushed")
    print(f"{reference} {', '.join(done)}", flush=True)
    return reference


def build(builder: Builder, one: Recipe, reference: str, base: Base, given: argparse.Namespace) -> None:
    """Builds one image in a folder that holds what belongs to it and nothing else."""
    parents = {"BASE": base.reference}
    if one.parent:
        parents[one.parent.name.upper()] = named(one.parent, base, given.registry)
    code = {"REVISION": one.commit.hash, "CHANGED": ":".join(one.commit.changed)} if one.code else {}
    labels = {
        "title": f"sevenfold/{one.name}",
        "description": one.description,
        "version": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "revision": one.commit.hash,
        "created": one.commit.time,
        "source": given.source,
        "licenses": given.licenses,
        "base.name": base.name,
        "base.digest": base.digest,
    }
    with tempfile.TemporaryDirectory() as folder:
        one.put_into(Path(folder))
        builder.build(
            reference,
            Path(folder),
            f"docker/{one.name}/Dockerfile",
            parents | code,
            {f"org.opencontainers.image.{name}": value for name, value in labels.items()},
        )


def named(one: Recipe, base: Base, registry: str) -> str:
    """Its name, tagged by its content; without a registry as a cluster would complete it."""
    return f"{registry or 'docker.io'}/sevenfold/{one.name}:{one.key(base.digest)}"


def arguments() -> argparse.Namespace:
    """What is asked for; every option has the name of its variable of `make images`."""
    parser = argparse.ArgumentParser(prog="make images", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of images; all of them if none is named")
    parser.add_argument("--builder", default="", help="docker, podman or buildah; the first that is there")
    parser.add_argument("--flags", default="", help="more options of its build command")
    parser.add_argument(
        "--pip-conf", default="", help="a pip.conf for the build: an index of yours, a build of torch"
    )
    parser.add_argument("--registry", default="", help="what stands before sevenfold/<image>")
    parser.add_argument(
        "--base", default="", help=f"image with Python, by digest; else the last one, or {BASE}"
    )
    parser.add_argument("--push", action="store_true", help="push them to the registry")
    parser.add_argument("--save", default="", help="a folder for one archive an image")
    parser.add_argument("--source", default=_origin(), help="where the code is, for the label")
    parser.add_argument(
        "--licenses", default="", help="SPDX expression of your code's licence, for the label"
    )
    given = parser.parse_args()
    if given.push and not given.registry:
        parser.error("PUSH=1 needs REGISTRY=..., the registry that your cluster pulls from")
    if unknown := sorted(set(given.only) - {one.name for one in recipes()}):
        parser.error(f"there is no docker/{unknown[0]}/Dockerfile")
    return given


def flags(given: argparse.Namespace) -> list[str]:
    """More options of every build. What pip is told may hold a password: a secret stays in no image."""
    secret = f"id=pip.conf,src={Path(given.pip_conf).expanduser().absolute()}" if given.pip_conf else ""
    return [*shlex.split(given.flags), *(["--secret", secret] if secret else [])]


def _with_parents(names: list[str]) -> set[str]:
    known = {one.name: one for one in recipes()}
    found: set[str] = set()
    for name in names:
        one: Recipe | None = known[name]
        while one:
            found.add(one.name)
            one = one.parent
    return found


def _origin() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "remote", "get-url", "origin"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if "@" not in done.stdout else ""  # an address may hold somebody's password


if __name__ == "__main__":
    sys.exit(main())
