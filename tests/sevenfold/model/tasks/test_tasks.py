"""What every kind of task has to keep, each in a world whose truth is known."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests import toy

from sevenfold.candidates import artefact
from sevenfold.data.predictions import column, paired, values
from sevenfold.data.tabular import Encoder
from sevenfold.measures import fairness
from sevenfold.model import tasks
from sevenfold.model.tasks import BINARY, Task
from sevenfold.model.tasks.binary_classification import BinaryClassification
from sevenfold.model.tasks.multiclass_classification import MulticlassClassification
from sevenfold.model.tasks.regression import Regression
from sevenfold.training import CannotLearn, Examples, TrainingSettings, fit
from sevenfold.training.baselines import baselines
from sevenfold.training.learning import learn

ROWS, DAYS = 3000, 60


@dataclass(frozen=True)
class World:
    """Rows of one number x, the right prediction of each, and labels drawn from it."""

    task: Task
    x: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    days: np.ndarray[Any, Any]

    def examples(self, part: slice) -> Examples:
        n = len(self.x[part])
        return Examples(
            self.x[part, None].astype(np.float32),
            np.zeros((n, 0), np.int64),
            self.label[part].astype(np.float32),
            self.task,
        )


def world(task: Task) -> World:
    random = np.random.default_rng(3)
    x, days = random.normal(size=ROWS), np.repeat(np.arange(DAYS), ROWS // DAYS)
    if isinstance(task, BinaryClassification):
        right = 1 / (1 + np.exp(-2 * x))
        label = (random.random(ROWS) < right).astype(float)
    elif isinstance(task, MulticlassClassification):
        raw = np.exp(np.stack([x, -x, np.zeros(ROWS)], axis=1) * 1.5)
        right = raw / raw.sum(axis=1, keepdims=True)
        label = (random.random((ROWS, 1)) > right.cumsum(axis=1)).sum(axis=1).astype(float)
    else:
        right = np.stack([100 + 20 * x, 5 + 2 * np.abs(x)], axis=1)
        label = random.normal(right[:, 0], right[:, 1])
    return World(task, x, right, label, days)


TASKS = [
    BinaryClassification("heads"),
    MulticlassClassification(("up", "down", "level")),
    Regression("degrees", 10.0),
]


@pytest.fixture(scope="module", params=TASKS, ids=[task.name for task in TASKS])
def truth(request: pytest.FixtureRequest) -> World:
    return world(request.param)


def test_a_right_prediction_costs_what_it_expects_and_is_calibrated(truth: World) -> None:
    task, label, right, days = truth.task, truth.label, truth.right, truth.days
    excess = task.losses(label, right) - task.expected_losses(right)
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(ROWS)
    ratio = task.observed_over_expected(label, right, days)
    assert ratio.low < 1 < ratio.high
    curve = task.calibration_curve(label, right, days)
    assert len(curve) == 10
    spread = np.std([bin.predicted for bin in curve])
    assert all(abs(bin.observed.value - bin.predicted) < max(0.08, 0.1 * spread) for bin in curve)
    assert set(task.headline(label, right, days)) == set(task.headline_units)


def test_every_other_prediction_costs_more(truth: World) -> None:
    """The log loss is proper: whoever says something else than the truth pays for it."""
    task, label, right = truth.task, truth.label, truth.right
    others = [np.roll(right, 1, axis=0), np.broadcast_to(task.constant(label), right.shape)]
    if isinstance(task, Regression):
        others += [right * [1, 2], right * [1, 0.5], right + np.array([3, 0])]
    else:
        others += [(right + 1 / 3) / 2, right**2 / (right**2).sum(axis=-1, keepdims=True) * 0.9 + 0.03]
    for other in others:
        if isinstance(task, MulticlassClassification):
            other = other / other.sum(axis=1, keepdims=True)
        worse = task.losses(label, other) - task.losses(label, right)
        assert worse.mean() > 0
    shuffled = others[0]
    second = task.second_difference(label, right, shuffled, truth.days)
    found = [task.second_metric(label, one, truth.days).value for one in (right, shuffled)]
    assert second.value == pytest.approx(found[0] - found[1])
    assert not second.low <= 0 <= second.high


def test_decisions_distance_and_score(truth: World) -> None:
    task, label, right = truth.task, truth.label, truth.right
    other = np.roll(right, 1, axis=0)
    assert not task.differ(right, right).any() and task.differ(right, other).any()
    assert (task.distance(right, right) == 0).all() and (task.distance(right, other) >= 0).all()
    assert task.wrong(label, other).mean() > task.wrong(label, right).mean() > 0
    score = task.score(right)
    assert score.shape == (ROWS,) and np.isfinite(score).all() and np.std(score) > 0


def test_groups_that_are_treated_alike_have_no_gap_and_others_have(truth: World) -> None:
    task, label, right = truth.task, truth.label, truth.right
    group = np.array(["a", "b"])[np.random.default_rng(0).integers(2, size=ROWS)]
    fair = fairness.gaps(fairness.count(task, truth.days, group, label, right))
    assert {gap.rate for gap in fair} == set(task.fairness(label, right))
    assert all(gap.low <= 0.03 for gap in fair)
    biased = right.copy()
    wrong_way = np.roll(right, ROWS // 2, axis=0)
    biased[group == "b"] = wrong_way[group == "b"]
    unfair = fairness.gaps(fairness.count(task, truth.days, group, label, biased))
    assert max(gap.low for gap in unfair) > 0.05
    for above, below in task.group_rates(label, right).values():
        assert len(above) == len(below) == ROWS


def test_the_simple_models_beat_the_constant(truth: World) -> None:
    task, train, stop, test = truth.task, slice(0, 2000), slice(2000, 2500), slice(2500, ROWS)
    found = {
        name: fit_one(truth.examples(train), truth.examples(stop), [], 0)(truth.examples(test))
        for name, fit_one in baselines(task).items()
    }
    assert list(found) == ["constant", task.linear, "gradient_boosting"]
    losses = {name: task.losses(truth.label[test], one).mean() for name, one in found.items()}
    assert losses[task.linear] < losses["constant"] - 0.1
    assert losses["gradient_boosting"] < losses["constant"] - 0.1


def test_a_column_that_is_wholly_missing_in_training_is_no_harm_to_the_linear_model(truth: World) -> None:
    task, train, test = truth.task, slice(0, 500), slice(2500, ROWS)

    def two_columns(rows: slice, second: float) -> Examples:
        one = truth.examples(rows)
        numeric = np.hstack([one.numeric, np.full((len(one), 1), second, np.float32)])
        return replace(one, numeric=numeric)

    learned, missing = two_columns(train, np.nan), two_columns(test, np.nan)
    fit = baselines(task)[task.linear]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        predict = fit(learned, learned, [], 0)
        found = predict(missing)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(predict(two_columns(test, 1e6)), found, atol=1e-3)


def network(task: Task) -> Any:
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = task.raw_shape[0] if task.raw_shape else 1
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(1, 16), torch.nn.ReLU(), torch.nn.Linear(16, wide)
            )

        def forward(self, numeric: Any, categorical: Any) -> Any:
            raw = self.layers(numeric)
            return raw if task.raw_shape else raw.squeeze(1)

    return Small()


def test_a_network_learns_and_its_file_answers_as_it_does(truth: World, tmp_path: Path) -> None:
    import torch

    task = truth.task
    examples, stopping = truth.examples(slice(0, 2000)), truth.examples(slice(2000, ROWS))
    torch.manual_seed(0)
    learner = task.on_scale_of(network(task), examples.label)
    fitted = fit(
        learner,
        examples,
        stopping,
        TrainingSettings(epochs=20, batch_size=50, learning_rate=0.01),
        tmp_path / "checkpoint.pt",
    )
    label, right = truth.label[2000:], truth.right[2000:]
    best_possible = task.losses(label, right).mean()
    assert fitted.best.stopping_loss < best_possible + 0.05
    encoder = Encoder("small", ("x",), (), {}, task)
    artefact.export(learner, encoder, tmp_path / "model.onnx")
    scorer = artefact.Scorer(tmp_path / "model.onnx")
    assert scorer.task == task
    answer = scorer.predict({"x": truth.x[2000:]})
    assert answer.shape == task.output.shape(1000) and answer.dtype == np.float32
    assert task.losses(label, answer).mean() == pytest.approx(fitted.best.stopping_loss, abs=1e-3)
    largest = artefact.difference(learner, tmp_path / "model.onnx", *encoder.encode({"x": truth.x[:50]}))
    assert largest < 1e-3 if isinstance(task, Regression) else largest < 1e-6
    assert scorer.predict({"x": []}).shape == task.output.shape(0)
    if task.output.low is not None:
        assert answer.min() >= task.output.low and answer.max() <= task.output.high


@pytest.mark.parametrize(
    ("task", "labels", "sentence"),
    [
        (BINARY, [0, 1, 2], "labels of the training window must be 0 or 1, but 2.0 is among them"),
        (TASKS[1], [0, 1, 3], "must be 0 to 2, the places of up, down, level, but 3 is among them"),
        (TASKS[2], [0, 1, np.nan], "must be numbers, but 1 of 3 are missing or infinite"),
        (BINARY, [1, 1, 1], "all 3 labels of the training window are 1: there is nothing to tell apart"),
        (TASKS[1], [2, 2, 2], "all 3 labels of the training window are level: there is nothing"),
        (TASKS[1], [0, 1, 0], "level never came, so nobody can learn it"),
        (TASKS[2], [4, 4, 4], "all 3 labels of the training window are 4: there is nothing to tell apart"),
    ],
)
def test_bad_labels_are_one_sentence(tmp_path: Path, task: Task, labels: list[float], sentence: str) -> None:
    few = Examples(
        np.zeros((3, 1), np.float32), np.zeros((3, 0), np.int64), np.array(labels, np.float32), task
    )
    with pytest.raises(CannotLearn) as error:
        fit(network(task), few, few, TrainingSettings(epochs=1), tmp_path / "checkpoint.pt")
    assert sentence in str(error.value)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_numbers_have_no_classes_to_balance(tmp_path: Path) -> None:
    few = world(TASKS[2]).examples(slice(0, 100))
    settings = TrainingSettings(epochs=1, imbalance="weighted")
    with pytest.raises(CannotLearn, match="imbalance: weighted is for classes, and a regression has none"):
        fit(network(TASKS[2]), few, few, settings, tmp_path / "checkpoint.pt")


def test_predictions_survive_a_table_and_are_paired_by_request(truth: World) -> None:
    some = truth.right[:40]
    table = pa.table(
        {
            "request": [f"r{i // 4}" for i in range(40)],
            "row": [i % 4 for i in range(40)],
            "time": pa.array(range(40), pa.timestamp("us", tz="UTC")),
            "prediction": column(some),
        }
    )
    np.testing.assert_allclose(values(table["prediction"]), some, rtol=1e-6)
    others = table.take(np.random.default_rng(0).permutation(40)[:30])
    ours, theirs = paired(table, others)
    assert ours.num_rows == 30
    np.testing.assert_array_equal(values(ours["prediction"]), values(theirs["prediction"]))
    assert ours["time"].to_pylist() == sorted(ours["time"].to_pylist())


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no kind of task 'magic'; there are: binary_classification"):
        tasks.of({"name": "magic"})
    with pytest.raises(ValueError, match=r"task regression: .*colour"):
        tasks.of({"name": "regression", "colour": 1})


def test_a_network_of_the_wrong_width_is_one_sentence(tmp_path: Path) -> None:
    binary = "task: binary_classification\ntarget: heads\npositive: heads"
    three = "task: multiclass_classification\ntarget: heads\nclasses: [heads, tails, edge]"
    spec = toy.spec_in(tmp_path, toy.MODEL_YAML.replace(binary, three))
    rows, _ = toy.build(lambda line: None)
    table = rows.append_column("label", pa.array(np.arange(rows.num_rows) % 3)).slice(0, 300)
    with pytest.raises(CannotLearn, match=r"the network of toy gives \[2\] for 2 rows, but a multiclass"):
        learn(spec, table, table, spec.defaults, 0, tmp_path / "checkpoint.pt")
