"""Each image has what its programs import: they are imported as if nothing else were installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from airflow.dag_processing.dagbag import DagBag
from packaging.requirements import Requirement
from tests.docker.without import name

from sevenfold_airflow.pod import PodOperator

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = Path(__file__).with_name("without.py")


@cache
def programs() -> dict[str, list[str]]:
    """Modules that run in each image."""
    bag = DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags")
    found: dict[str, set[str]] = {"server": {"sevenfold.serving.server"}}
    for dag in bag.dags.values():
        for task in dag.tasks:
            if isinstance(task, PodOperator):
                found.setdefault(str(task.image), set()).add(task.cmds[-1])
    found["airflow"] = {
        f"sevenfold_airflow.{path.stem}" for path in (ROOT / "plugins/sevenfold_airflow").glob("*.py")
    }
    return {image: sorted(modules) for image, modules in found.items()}


@cache
def installed(image: str) -> frozenset[str]:
    """The distributions that an image has: what its requirements name, and what these need."""
    lines = (ROOT / "docker" / image / "requirements.txt").read_text().splitlines()
    todo = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        for extra in ("", *wanted.extras):
            if (key := (name(wanted.name), extra)) in seen:
                continue
            seen.add(key)
            try:
                needed = [Requirement(line) for line in requires(wanted.name) or []]
            except PackageNotFoundError:
                continue
            todo += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return frozenset(distribution for distribution, _ in seen)


@cache
def distributions() -> Mapping[str, list[str]]:
    """Which distributions bring a package."""
    return packages_distributions()


def test_every_image_of_the_dags_has_its_folder() -> None:
    assert set(programs()) == {path.parent.name for path in (ROOT / "docker").glob("*/Dockerfile")}


@pytest.mark.parametrize("image", sorted(path.parent.name for path in (ROOT / "docker").glob("*/Dockerfile")))
def test_an_image_has_what_its_programs_import(image: str) -> None:
    assert not missing(programs()[image], installed(image))


@pytest.mark.parametrize("image", sorted(path.parent.name for path in (ROOT / "docker").glob("*/Dockerfile")))
def test_an_image_has_what_its_programs_import_when_they_need_it(image: str) -> None:
    """Imports inside the functions of an activity's own file, which no import of the file shows."""
    found = {
        f"{module} needs {package}"
        for module in programs()[image]
        for package in own_imports(module)
        if (of := distributions().get(package)) and not {name(one) for one in of} & installed(image)
    }
    assert not found


def test_what_an_image_lacks_is_noticed() -> None:
    said = missing(["sevenfold.serving.server"], installed("server") - {"onnxruntime", "orjson"})
    assert "is not in this image" in said


def missing(modules: list[str], allowed: frozenset[str]) -> str:
    """What cannot be imported with these distributions only, and why; empty if nothing."""
    paths = ":".join(str(ROOT / room) for room in ("include", "plugins"))
    run = subprocess.run(
        [sys.executable, WITHOUT, *modules],
        input="\n".join(allowed),
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line for line in run.stdout.splitlines() if line.startswith("missing: "))


def own_imports(module: str) -> set[str]:
    """Top-level packages that a module of ours names in any import."""
    room = "plugins" if module.startswith("sevenfold_airflow") else "include"
    tree = ast.parse((ROOT / room / f"{module.replace('.', '/')}.py").read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names
