"""Each image has what its programs really use: they run to their end on nothing but its packages.

What a function imports, reads or starts only when it is called shows here, in no import. An activity of each
image, or a part of one, that is cheap; and a replica under load: pods run all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from tests.activities.small_world import MODEL, World
from tests.docker.conftest import Of
from tests.docker.making import ROOT
from tests.docker.venvs import IMPORTED, Venv
from tests.sevenfold import evidence_world
from tests.sevenfold.serving.local import gateway_port, wait

from sevenfold.cluster import Endpoint, ready
from sevenfold.environments import before

ACTIVITIES = [
    ("activities", "development", "explore", "main"),
    ("quality", "preproduction", "fairness", "main"),
    ("security", "preproduction", "security", "composition"),
    ("trainer", "testing", "benchmark", "main"),
]
PART = """
import runpy, sys
from activities.{environment} import {name}
from sevenfold.activity import run
run({name}.{part}, sys.argv[2:])
del sys.argv[2:]
runpy.run_path(sys.argv.pop())
"""
"""Ends as what looks for packages from outside does."""
LOAD = """
import sys
from pathlib import Path
from sevenfold.load.generator import Kind, Schedule, generate
host, path, body = sys.argv[1:]
kinds, schedule = [Kind("one row", path, [body])], Schedule.steady(20, 1)
result = generate(host, kinds, schedule, folder=Path.cwd() / "load", timeout_s=20)
print(result.requests, result.errors, result.report.stat().st_size > 1000)
"""
ASKED = [
    {"name": "numeric", "shape": [1, 2], "datatype": "FP32", "data": [[0.5, None]]},
    {"name": "categorical", "shape": [1, 1], "datatype": "BYTES", "data": [["hill"]]},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def replica(venv: Of, world: World) -> Iterator[str]:
    """The address of a candidate that may be tested, in a process with what the image `server` has."""
    made = world.candidate()
    for environment in before("testing"):
        evidence_world.World(world.store).judged(made, environment)
    at = Endpoint(gateway_port())
    whom = ("--model", MODEL, "--candidate", made.id, "--slot", "testing")
    how = ("--port", str(at.port), "--drain", "0.1")
    process = venv("server").start("python", "-m", "sevenfold.serving.server", *whom, *how, **places(world))
    wait(lambda: ready(at, made.id) or process.poll() is not None, 60)
    assert process.poll() is None, process.communicate()
    yield f"http://127.0.0.1:{at.port}"
    process.terminate()
    process.communicate()


def places(world: World) -> dict[str, str]:
    """Where the programs find the small world."""
    return {
        "SEVENFOLD_HOME": str(world.settings.home),
        "SEVENFOLD_MODELS": str(world.settings.models),
        "PYTHONPATH": os.pathsep.join((str(ROOT / "include"), str(ROOT))),
    }


def run(world: World, where: Venv, environment: str, name: str, part: str = "main") -> tuple[int, str]:
    """Exit code of an activity, or of a part of it, on what `where` has, and what it said."""
    activity = world.activity(name, environment, world.candidate(), run=where.folder.name)
    whose = ("--model", MODEL, "--environment", environment, "--run", activity.promotion.run)
    program = PART.format(environment=environment, name=name, part=part)
    done = where.run("python", "-c", program, str(IMPORTED), *whose, **places(world))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("image", "environment", "name", "part"), ACTIVITIES)
def test_an_activity_runs_on_what_its_image_has(
    venv: Of, world: World, image: str, environment: str, name: str, part: str
) -> None:
    code, said = run(world, venv(image), environment, name, part)
    assert code == 0, said
    assert f"{name}: finished" in said


def test_a_replica_answers_to_load_each_on_what_its_image_has(venv: Of, replica: str) -> None:
    asked = (replica, f"/v2/models/{MODEL}/infer", json.dumps({"inputs": ASKED}))
    loaded = venv("loadtest").run("python", "-c", LOAD, *asked)
    assert loaded.stdout.split() == ["20", "0", "True"], loaded.stdout + loaded.stderr


def test_a_package_that_is_used_late_is_missed(venv: Of, world: World) -> None:
    code, said = run(world, venv("activities", "matplotlib"), "development", "explore")
    assert code
    assert "No module named 'matplotlib'" in said
