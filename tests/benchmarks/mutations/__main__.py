"""Breaks each rule of the gates on purpose, one line at a time, and shows that a test notices.

`python -m tests.benchmarks.mutations [--only WORD]` from the root with include/ on PYTHONPATH takes minutes.
It works on a copy of the tree, and exits 1 if a broken rule passes its tests or a line to break is not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.mutations.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("include", "plugins", "dags", "tests", "pyproject.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tries all; 0 if each was noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="those whose name or file holds this word")
    given = parser.parse_args(arguments)
    chosen = [one for one in MUTATIONS if given.only in one.breaks or given.only in one.file]
    with tempfile.TemporaryDirectory(prefix="sevenfold-mutations-") as folder:
        copy = Path(folder)
        for name in COPIED:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
        untouched = passes(copy, sorted({test for one in chosen for test in one.tests}))
        print(f"untouched: {'all tests pass' if untouched else 'TESTS FAIL'}", flush=True)
        survived = [one for one in chosen if not noticed(copy, one)]
    print(f"\n{len(chosen) - len(survived)} of {len(chosen)} broken rules were noticed")
    return 0 if untouched and not survived else 1


def noticed(copy: Path, mutation: Mutation) -> bool:
    """Whether a test fails with one line broken; the line is put back afterwards."""
    began = time.monotonic()
    path = copy / "include" / "sevenfold" / mutation.file
    text = path.read_text()
    if text.count(mutation.line) != 1:
        print(f"NOT THERE  {mutation.file}: {mutation.line!r} stands there {text.count(mutation.line)} times")
        return False
    path.write_text(text.replace(mutation.line, mutation.broken))
    try:
        found = not passes(copy, mutation.tests)
    finally:
        path.write_text(text)
    seconds = time.monotonic() - began
    print(f"{'noticed' if found else 'SURVIVED':9} {seconds:5.1f} s  {mutation.breaks}", flush=True)
    return found


def passes(copy: Path, tests: Sequence[str]) -> bool:
    """Whether these test files pass."""
    command = [sys.executable, "-m", "pytest", *tests, "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-m", "not postgresql"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
