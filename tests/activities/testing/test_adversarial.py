"""Edge cases and attacks work for every kind of task, and a fragile network is told from a smooth one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from activities.testing import adversarial
from sevenfold.candidates import artefact
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.tabular import Encoder
from sevenfold.model.tasks import BINARY, Task
from sevenfold.model.tasks.multiclass_classification import MulticlassClassification
from sevenfold.model.tasks.regression import Regression
from sevenfold.serving.server import application
from sevenfold.trials.edge_cases import EdgeCases

N, DAYS = 600, 20
START = datetime(2020, 1, 1, tzinfo=UTC)
WINDOW = (START, START + timedelta(days=DAYS))
TASKS = [BINARY, MulticlassClassification(("low", "middle", "high")), Regression("metres", 0.1)]


def rows(task: Task) -> pa.Table:
    """Two numbers, one of them with gaps, and a colour; what the label is follows from the first."""
    random = np.random.default_rng(1)
    height, width = random.normal(size=(2, N)).astype(np.float32)
    width[::9] = np.nan
    signal = height + 0.3 * random.normal(size=N)
    label = {"binary_classification": signal > 0, "regression": signal}.get(
        task.name, np.digitize(signal, [-0.5, 0.5])
    )
    days = [(START + timedelta(days=i * DAYS // N)).date() for i in range(N)]
    colour = random.choice(["red", "blue"], N)
    columns = {"height": height, "width": width, "colour": colour, "day": days, "label": label.astype(float)}
    return pa.table(columns)


def scorer(task: Task, folder: Path, ripple: float = 0.0) -> Scorer:
    """An artefact whose first number decides, smoothly or with ripples of so many nats between the points."""
    import torch

    class Network(torch.nn.Module):
        def forward(self, numeric: Any, categorical: Any) -> Any:
            height = torch.nan_to_num(numeric[:, 0])
            signal = 2 * height + ripple * torch.sin(20 * height) + 0 * categorical[:, 0]
            if not task.raw_shape:
                return signal
            if task.name == "regression":
                return torch.stack([signal / 2, 0 * signal], dim=1)
            return torch.stack([-2 * signal, 0 * signal, 2 * signal], dim=1)

    encoder = Encoder("toy", ("height", "width"), ("colour",), {"colour": ("blue", "red")}, task)
    artefact.export(Network(), encoder, folder / "model.onnx")
    return Scorer(folder / "model.onnx")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_attack_hurts_more_than_chance_and_more_with_a_larger_budget(task: Task, tmp_path: Path) -> None:
    found = adversarial.attacked(scorer(task, tmp_path), rows(task), WINDOW)
    assert [hurt.budget for hurt in found] == list(adversarial.BUDGETS)
    worst = [hurt.pgd.value for hurt in found]
    assert worst == sorted(worst)
    assert worst[0] > 0
    for hurt in found:
        assert hurt.pgd.value >= hurt.fgsm.value - 1e-9
        assert hurt.pgd.value > 2 * abs(hurt.random.value)
        assert hurt.pgd.low < hurt.pgd.value < hurt.pgd.high
        assert 0 <= hurt.changed <= 1
    assert found[-1].changed > found[0].changed


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_network_with_ripples_is_more_fragile(task: Task, tmp_path: Path) -> None:
    smooth, rippled = (
        next(
            hurt.pgd.value
            for hurt in adversarial.attacked(scorer(task, tmp_path, ripple), rows(task), WINDOW)
            if hurt.budget == adversarial.BUDGET
        )
        for ripple in (0.0, 0.5)
    )
    assert rippled > 2 * smooth


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_server_of_every_task_keeps_to_edge_cases(task: Task, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    encoder = scorer(task, tmp_path).encoder
    app: Any = application("toy", "toy-0123456789ab", "testing", tmp_path / "model.onnx", tmp_path / "logs")
    ordinary = rows(task).select(["height", "width", "colour"]).slice(1, 4).to_pylist()
    reach = {"height": (-3.0, 3.0), "width": (-3.0, 3.0)}
    checks = EdgeCases(TestClient(app), encoder, ordinary, reach).check()
    assert {check.promise: check.violation for check in checks if check.violation} == {}
