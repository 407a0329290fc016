"""The virtual environment of each image has what its lock says, all it needs, and no way out."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from tests.docker.conftest import Of
from tests.docker.making import OF_TORCH, ROOT, held, locked, recipes
from tests.docker.venvs import HERE, PACKAGES, Venv

IMAGES = sorted(one.name for one in recipes())
CHILD = """
import subprocess, sys
subprocess.run([sys.argv[1] or sys.executable, "-c", "import sys; print(sys.path)"])
"""


@cache
def packages() -> dict[str, set[str]]:
    """All packages that are installed here, and which distributions bring them."""
    return {
        name: {canonicalize_name(one) for one in of}
        for name, of in packages_distributions().items()
        if name.isidentifier()
    }


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_versions_of_the_lock_and_nothing_else(venv: Of, image: str) -> None:
    lock = {canonicalize_name(one.name): one.specifier for one in locked(image)}
    listed = (line.split("==") for line in uv("freeze", venv(image)).stdout.splitlines())
    there = {name: version for name, version in listed if name in lock or not name.startswith(OF_TORCH)}
    assert there.keys() == lock.keys(), "what is installed here is not requirements.lock: make .venv/ready"
    assert not {name: version for name, version in there.items() if not lock[name].contains(version)}


@pytest.mark.parametrize("image", IMAGES)
def test_what_an_image_has_is_complete_and_without_conflict(venv: Of, image: str) -> None:
    checked = uv("check", venv(image))
    assert checked.returncode == 0, checked.stderr


def test_an_image_that_lacks_something_is_not_complete(venv: Of) -> None:
    checked = uv("check", venv("mlflow", "starlette"))
    assert checked.returncode == 1
    assert "starlette" in checked.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_programs_find_what_the_image_has_and_nothing_else(venv: Of, image: str) -> None:
    assert venv(image).finds(packages()) == {name for name, of in packages().items() if of & held(image)}


def test_a_way_out_is_noticed(venv: Of) -> None:
    """By a .pth file, say: any distribution may bring one."""
    leaking = venv("python", "walls")
    (leaking.folder / PACKAGES / "out.pth").write_text(str(HERE / PACKAGES))
    assert leaking.finds(packages()) >= {"numpy", "pytest", "torch"}


@pytest.mark.parametrize("python", ["", "python"])
def test_what_a_program_starts_is_in_there_too(venv: Of, python: str) -> None:
    """By sys.executable, as activities start their workers, and by name."""
    own = str(venv("server").folder / PACKAGES)
    path = venv("server").run("python", "-c", CHILD, python, PYTHONPATH="").stdout
    assert own in path
    assert "site-packages" not in path.replace(own, "")


def uv(command: str, of: Venv) -> subprocess.CompletedProcess[str]:
    """What uv says of an environment: it reads it in its own way, where ours could err the same way twice."""
    program = Path(sys.executable).with_name("uv")
    return subprocess.run(
        [program, "pip", command, "--offline", "--python", of.folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
