"""Each image has what its programs really use: an activity runs to its end as if nothing else were installed.

What a function imports, reads or starts only when it is called shows here, in no import. An activity of each
image, a cheap one: pods run all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.activities.small_world import World
from tests.docker.making import ROOT, installed

WITHOUT = Path(__file__).with_name("without.py")
ACTIVITIES = [
    ("activities", "development", "explore"),
    ("quality", "preproduction", "fairness"),
    ("trainer", "testing", "benchmark"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("runs"))


def run(world: World, image: str, environment: str, name: str, lacks: str = "") -> tuple[int, str]:
    """Exit code of an activity with the packages of an image, less `lacks`, and what it said."""
    activity = world.activity(name, environment, world.candidate(), run=f"{name}{lacks}")
    places = {"SEVENFOLD_HOME": world.settings.home, "SEVENFOLD_MODELS": world.settings.models}
    whose = [
        "--model",
        activity.promotion.model,
        "--environment",
        environment,
        "--run",
        activity.promotion.run,
    ]
    done = subprocess.run(
        [sys.executable, WITHOUT, "--run", f"activities.{environment}.{name}", *whose],
        input="\n".join(installed(image) - {lacks}),
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("SEVENFOLD_")},
            **{key: str(value) for key, value in places.items()},
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT}",
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
        },
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("image", "environment", "name"), ACTIVITIES)
def test_an_activity_runs_on_what_its_image_has(
    world: World, image: str, environment: str, name: str
) -> None:
    code, said = run(world, image, environment, name)
    assert code == 0, said
    assert f"{name}: finished" in said


def test_a_package_that_is_used_late_is_missed(world: World) -> None:
    code, said = run(world, "activities", "development", "explore", lacks="matplotlib")
    assert code
    assert "No module named 'matplotlib'" in said
