"""A scaffolded model works at once: its tests pass, and its gates let it through development and testing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.activities.model_world import DEVELOPMENT, PREPRODUCTION, TESTING, TRAINING, ModelWorld
from typer.testing import CliRunner

import models
from sevenfold.candidates import lineage
from sevenfold.cli.main import app
from sevenfold.data.snapshot import check
from sevenfold.environments import ENVIRONMENTS
from sevenfold.gates.policy import load_gate
from sevenfold.model import tasks
from sevenfold.model.scaffold import NotScaffolded, new_model
from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.settings import REPOSITORY, settings

NAMES = {"binary_classification": "churn", "multiclass_classification": "mood", "regression": "demand"}
END = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one new model of each kind, which Python finds beside those that ship."""
    folder = tmp_path_factory.mktemp("models")
    for kind, name in NAMES.items():
        new_model(name, kind, "tests", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(folder)])
        patch.setenv("PYTHONPATH", f"{REPOSITORY / 'include'}")
        yield folder


@pytest.fixture(params=NAMES)
def spec(request: pytest.FixtureRequest, shelf: Path) -> ModelSpec:
    """Each of them."""
    return load_spec(NAMES[request.param], shelf)


def test_it_is_whole_and_clean(spec: ModelSpec, shelf: Path) -> None:
    assert spec.task.name in NAMES and spec.owner == "tests"
    for environment in ENVIRONMENTS[:-1]:
        assert load_gate(shelf, spec.name, environment).metrics
    for name in spec.entry_points:
        assert callable(spec.entry(name))
    left = [path for path in spec.folder.rglob("*") if path.is_file() and "{{" in path.read_text()]
    assert left == []
    for command in (["format", "--check"], ["check"]):
        config = ["--config", str(REPOSITORY / "pyproject.toml")]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(spec.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_its_data_fit_its_spec(spec: ModelSpec) -> None:
    rows, labels = spec.entry("data")(lambda line: None)
    check(spec, rows, labels)
    known = rows["level_known_at"].drop_null()
    assert len(known) == rows.num_rows
    assert len(np.unique(np.asarray(labels["label"]))) > 1


@pytest.mark.parametrize("kind", NAMES)
def test_it_passes_its_own_tests_without_a_candidate(tmp_path: Path, kind: str) -> None:
    """As its owner runs them first: in the repository's folder of models, which the test copies."""
    include = tmp_path / "include"
    (include / "models").mkdir(parents=True)
    (include / "models" / "__init__.py").touch()
    folder = new_model("churn", kind, "tests", include / "models")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{folder}/tests"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            "PYTHONPATH": f"{include}:{REPOSITORY / 'include'}",
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "10 passed" in done.stdout


def test_its_tests_are_found_wherever_its_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the very command that is printed, in a folder of models outside of the repository."""
    shelf = tmp_path / "our own"
    shelf.mkdir()
    monkeypatch.setenv("SEVENFOLD_MODELS", str(shelf))
    settings.cache_clear()
    said = CliRunner().invoke(app, ["new-model", "churn"]).output
    settings.cache_clear()
    [command] = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("test it")]
    done = subprocess.run(
        f"{command} -q -p no:cacheprovider -k minimum",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "SEVENFOLD_HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_one_goes_from_development_through_preproduction(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind that neither of the models that ship has; they go the same way in tests of their own."""
    monkeypatch.chdir(tmp_path)  # MLflow on a file keeps its artifacts beside it
    monkeypatch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
    world = ModelWorld(tmp_path, shelf, NAMES["multiclass_classification"], END)
    idea = world.run("development", DEVELOPMENT, search_trials=1)
    candidate = world.run("training", TRAINING, idea)
    world.run("testing", TESTING, candidate, champion=idea)
    world.run("preproduction", PREPRODUCTION, candidate, champion=idea)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["Churn"], "'Churn' cannot be a model's name: lower-case letters, digits and underscores"),
        (["../churn"], "cannot be a model's name"),
        (["churn", "--task", "magic"], "no kind of task 'magic'; there are: binary_classification"),
        (["taken"], "taken exists already: choose another name, or remove it first"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setenv("SEVENFOLD_MODELS", str(tmp_path))
    settings.cache_clear()
    (tmp_path / "taken").mkdir()
    try:
        result = CliRunner().invoke(app, ["new-model", *arguments])
    finally:
        settings.cache_clear()
    assert result.exit_code == 1
    assert sentence in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_command_says_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_MODELS", str(tmp_path))
    settings.cache_clear()
    try:
        result = CliRunner().invoke(app, ["new-model", "demand", "--task", "regression", "--owner", "ann"])
    finally:
        settings.cache_clear()
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "demand.development in the Airflow UI" in said
    assert "as_of 2024-04-01: production lives through the days that come after" in said
    assert load_spec("demand", tmp_path).owner == "ann"


def test_every_kind_has_a_template() -> None:
    assert set(NAMES) == set(tasks.KINDS)


def test_half_a_folder_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        new_model("churn", "regression", "tests", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotScaffolded):
        new_model("", "regression", "tests", tmp_path)
