"""Each image has what its programs import: they are imported as if nothing else were installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from airflow.dag_processing.dagbag import DagBag
from tests.docker.making import installed, recipes
from tests.docker.without import name

from sevenfold_airflow.pod import PodOperator

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = Path(__file__).with_name("without.py")
OURS = sorted(one.name for one in recipes() if "include" in one.code)
"""Images with our code."""


@cache
def programs() -> dict[str, list[str]]:
    """Modules that run in each image: its entrypoint, activities, what watches on a cluster."""
    bag = DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags")
    found = {one.name: set(re.findall(r'ENTRYPOINT .*"(sevenfold[a-z.]+)"', one.text)) for one in recipes()}
    found["activities"] |= {"sevenfold.release.reconciler", "sevenfold.monitoring.watchman"}
    for dag in bag.dags.values():
        for task in dag.tasks:
            if isinstance(task, PodOperator):
                found.setdefault(str(task.image), set()).add(task.cmds[-1])
    found["airflow"] = {
        f"sevenfold_airflow.{path.stem}" for path in (ROOT / "plugins/sevenfold_airflow").glob("*.py")
    }
    found["airflow"] |= {
        "sevenfold.local.stack",
        "sevenfold.release.going_back",
        "sevenfold.evidence.revoke",
    }  # sevenfold's commands
    return {image: sorted(modules) for image, modules in found.items()}


@cache
def distributions() -> Mapping[str, list[str]]:
    """Which distributions bring a package."""
    return packages_distributions()


def test_every_image_of_the_dags_has_its_folder() -> None:
    assert set(programs()) == {one.name for one in recipes()}
    assert {image for image, modules in programs().items() if modules} == set(OURS)


@pytest.mark.parametrize("image", OURS)
def test_an_image_has_what_its_programs_import(image: str) -> None:
    assert not missing(programs()[image], installed(image))


@pytest.mark.parametrize("image", OURS)
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
    assert "No module named" in said


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
