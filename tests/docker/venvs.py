"""What an image has, without Docker: a virtual environment of some of the distributions installed here.

Nothing is fetched and nothing copied: in a tenth of a second, what wheels have installed here, by their own
RECORD, is linked. Folders are linked whole where all that is in them belongs; others, and those of metadata
(uv sees none in a link), are made and filled. The real path of a file stays here: tests see whether anything
gets out by it. (pex makes such environments, too, by packing wheels again: 13 CPU seconds for one image.)
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from venv import EnvBuilder

from packaging.utils import canonicalize_name
from tests.docker.making import ROOT, recipes

HERE = Path(sys.prefix).resolve()
PACKAGES = os.path.relpath(sysconfig.get_path("purelib"), sys.prefix)
IMPORTED = Path(__file__).with_name("imported.py")
OWN = ("SEVENFOLD_", "PYTHON", "VIRTUAL_ENV")
"""What variables begin with that this process has, and no container."""
SHEBANG = re.compile(rb"\A#!(?:/bin/sh\n'''exec' )?[^\n]*/python[^\n]*\n(?:' '''\n)?")
"""How scripts begin that pip or uv installed; the longer form is for long paths."""
FIND = """
import importlib.util, json, sys
print(json.dumps([name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name)]))
"""


@dataclass(frozen=True)
class Venv:
    """A virtual environment: `folder` has bin/, lib/ and the rest."""

    folder: Path

    def run(self, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of its bin/ to the end (see `start`)."""
        with self.start(program, *arguments, **variables) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a program of its bin/ with what every image sets, and only that and the system on PATH."""
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        places = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.defpath}",
            "PYTHONPATH": str(ROOT / "include"),
        }
        return subprocess.Popen(
            [self.folder / "bin" / program, *arguments],
            env={**inherited, **set_by_images(), **places, **variables},
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finds(self, packages: Iterable[str]) -> set[str]:
        """Which of these packages it could import."""
        run = self.run("python", "-c", FIND, json.dumps([*packages]), PYTHONPATH="")
        assert not run.returncode, run.stderr
        return set(json.loads(run.stdout))


def build(folder: Path, wanted: Set[str]) -> Venv:
    """Makes an environment of these distributions (normalised names), as far as they are installed here."""
    EnvBuilder(symlinks=True).create(folder)
    _fill(folder, "", wanted)
    return Venv(folder)


@cache
def set_by_images() -> dict[str, str]:
    """The variables that every image sets, less those that say where things are in it."""
    text = next(one.text for one in recipes() if one.name == "python")
    return dict(re.findall(r"^(?:ENV|   ) ([A-Z_]+)=([^/\s]+)(?: \\)?$", text, re.MULTILINE))


@cache
def owners() -> dict[str, set[str]]:
    """Which distributions have anything in each file and folder, by its path below sys.prefix."""
    found: dict[str, set[str]] = {}
    for one in distributions(path=[str(HERE / PACKAGES)]):
        name = canonicalize_name(one.metadata["Name"])
        for path, *_ in csv.reader((one.read_text("RECORD") or "").splitlines()):
            place = os.path.normpath(f"{PACKAGES}/{path}")
            while place and name not in (of := found.setdefault(place, set())):
                of.add(name)
                place = place.rpartition("/")[0]
    return found


def _fill(folder: Path, place: str, wanted: Set[str]) -> None:
    """Links what is wanted of the folder `place` here into that of the environment."""
    for entry in os.scandir(HERE / place):
        inside = f"{place}/{entry.name}".lstrip("/")
        target, of = folder / inside, owners().get(inside, set())
        if not of & wanted:
            continue
        if entry.is_dir() and (target.exists() or not of <= wanted or inside.endswith(".dist-info")):
            target.mkdir(exist_ok=True)
            _fill(folder, inside, wanted)
        elif place == "bin" and (begin := SHEBANG.match(script := Path(entry).read_bytes())):
            python = f"#!/bin/sh\n'''exec' \"{folder}/bin/python\" \"$0\" \"$@\"\n' '''\n"
            target.write_bytes(python.encode() + script[begin.end() :])
            target.chmod(0o755)
        else:
            target.symlink_to(entry)
