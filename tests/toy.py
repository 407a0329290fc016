"""A tiny model for tests: two numbers and a colour decide a coin. Its folder is written wherever wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sevenfold.model.spec import ModelSpec, load_spec

DAYS, ROWS_A_DAY = 60, 50
COLOURS = np.array(["blue", "green", "red"], dtype=object)

MODEL_YAML = """\
name: toy
title: Toy
owner: tests
description: A coin that two numbers and a colour decide.
task: binary_classification
target: heads
positive: heads
features:
  numeric: [height, width]
  categorical: [colour]
  known_at: {time: [height, width, colour]}
groups: [colour]
data:
  source: made up
  code: []
  starts: 2020-01-01
  ends: 2020-03-01
windows: {holdout_days: 12, sealed_days: 4, stopping_days: 5}
entry_points:
  data: tests.toy:build
  expectations: tests.toy:expectations
  network: models.flight_delay.network:build
hyperparameters:
  learning_rate: {default: 0.01, range: {low: 0.001, high: 0.1, log: true}}
  epochs: {default: 3}
  batch_size: {default: 256}
  hidden: {default: 16}
  dropout: {default: 0.1}
  weight_decay: {default: 0.0001}
  patience: {default: 3}
serving:
  replicas: 1
  sla: {rate: 10, p99_ms: 100, error_rate: 0.01}
"""


SUITE = {
    "conftest.py": """
def pytest_addoption(parser):
    for name in ("--candidate-file", "--as-of", "--data"):
        parser.addoption(name, required=True)
""",
    "test_toy.py": """
from pathlib import Path
from typing import Any

import pytest

from sevenfold.candidates.artefact import Scorer


@pytest.fixture
def scorer(request):
    return Scorer(Path(request.config.getoption("--candidate-file")))


def test_a_tall_one_is_likelier(scorer):
    low, high = scorer.predict({"height": [-2, 2], "width": [0, 0], "colour": ["red", "red"]})
    assert low < high


def test_it_is_told_the_moment_and_the_data(request):
    assert request.config.getoption("--as-of").startswith("2020-")
    assert Path(request.config.getoption("--data")).is_dir()
""",
}


def suite_in(spec: ModelSpec, **more: str) -> None:
    """Writes the toy's own test suite into its folder, with more files by name."""
    folder = spec.folder / "tests"
    folder.mkdir(exist_ok=True)
    for name, content in (SUITE | {f"{name}.py": content for name, content in more.items()}).items():
        (folder / name).write_text(content)


def expectations(start: datetime, end: datetime, columns: list[str]) -> list[Any]:
    """Two that must hold and one that warns."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=-10, max_value=10),
        gxe.ExpectColumnValuesToNotBeNull(column="width", severity="warning"),
    ]


def spec_in(models: Path, text: str = MODEL_YAML) -> ModelSpec:
    """The toy's spec, its folder written under `models`."""
    (models / "toy").mkdir(parents=True, exist_ok=True)
    (models / "toy" / "model.yaml").write_text(text)
    return load_spec("toy", models)


def build(progress: Callable[[str], None] = print) -> tuple[pa.Table, pa.Table]:
    """60 days of 50 rows; labels are known an hour after their row, except for every tenth row: never."""
    progress("tossing coins")
    random = np.random.default_rng(0)
    n = DAYS * ROWS_A_DAY
    start = datetime(2020, 1, 1, tzinfo=UTC)
    times = [start + timedelta(days=i // ROWS_A_DAY, minutes=20 * (i % ROWS_A_DAY)) for i in range(n)]
    height, width = random.normal(size=(2, n)).astype(np.float32)
    colour = random.choice(COLOURS, n)
    odds = 1.5 * height - np.nan_to_num(width) + (colour == "red")
    width[random.random(n) < 0.1] = np.nan
    label = (random.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    ids = [f"toy-{i:05d}" for i in range(n)]
    rows = pa.table(
        {
            "id": ids,
            "time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "day": pa.array([time.date() for time in times], pa.date32()),
            "height": height,
            "width": width,
            "colour": pa.array(colour, pa.string()),
        }
    )
    known = [i for i in range(n) if i % 10]
    labels = pa.table(
        {
            "id": [ids[i] for i in known],
            "label": label[known],
            "known_at": pa.array(
                [times[i] + timedelta(hours=1) for i in known], pa.timestamp("us", tz="UTC")
            ),
        }
    )
    return rows, labels
