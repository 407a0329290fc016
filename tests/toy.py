"""A tiny model for tests: two numbers and a colour decide a coin. Its folder is written wherever wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from sevenfold.spec import ModelSpec, load_spec

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
groups: [colour]
data:
  source: made up
  code: []
  starts: 2020-01-01
  ends: 2020-03-01
windows: {holdout_days: 12, sealed_days: 4, stopping_days: 5}
entry_points:
  data: tests.toy:build
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
