"""Each image has what its programs really use: an activity runs to its end on nothing but its packages.

What a function imports, reads or starts only when it is called shows here, in no import. An activity of each
image, a cheap one: pods run all of them.
"""

from __future__ import annotations

import os

import pytest
from tests.activities.small_world import World
from tests.docker.conftest import Of
from tests.docker.making import ROOT
from tests.docker.venvs import Venv

ACTIVITIES = [
    ("activities", "development", "explore"),
    ("quality", "preproduction", "fairness"),
    ("trainer", "testing", "benchmark"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("runs"))


def run(world: World, where: Venv, environment: str, name: str) -> tuple[int, str]:
    """Exit code of an activity on what `where` has, and what it said."""
    activity = world.activity(name, environment, world.candidate(), run=where.folder.name)
    done = where.run(
        *("python", "-m", f"activities.{environment}.{name}"),
        *("--model", activity.promotion.model, "--environment", environment),
        *("--run", activity.promotion.run),
        SEVENFOLD_HOME=str(world.settings.home),
        SEVENFOLD_MODELS=str(world.settings.models),
        PYTHONPATH=os.pathsep.join((str(ROOT / "include"), str(ROOT))),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("image", "environment", "name"), ACTIVITIES)
def test_an_activity_runs_on_what_its_image_has(
    venv: Of, world: World, image: str, environment: str, name: str
) -> None:
    code, said = run(world, venv(image), environment, name)
    assert code == 0, said
    assert f"{name}: finished" in said


def test_a_package_that_is_used_late_is_missed(venv: Of, world: World) -> None:
    code, said = run(world, venv("activities", "matplotlib"), "development", "explore")
    assert code
    assert "No module named 'matplotlib'" in said
