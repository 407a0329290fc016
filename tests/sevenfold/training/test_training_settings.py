"""Every setting of training does what its name says, and one that means nothing is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.sevenfold.training.test_training import ENCODER, SETTINGS, STOPPING, TRAINING, examples, network

from sevenfold import training
from sevenfold.candidates import artefact
from sevenfold.candidates.artefact import Scorer
from sevenfold.model.tasks import BINARY, MulticlassClassification, Regression
from sevenfold.training import CannotLearn, Examples, TrainingSettings
from sevenfold.training.batches import InMemory, Shuffle
from sevenfold.training.calibration import calibrated
from sevenfold.training.hardware import Hardware
from sevenfold.training.loss import class_weights, training_losses
from sevenfold.training.processes import ALONE, Processes
from sevenfold.training.schedule import optimiser


def rare(n: int, seed: int) -> Examples:
    """One positive in ten."""
    found = examples(10 * n, seed)
    keep = (found.label == 0) | (np.arange(len(found)) % 9 == 0)
    return Examples(found.numeric[keep][:n], found.categorical[keep][:n], found.label[keep][:n])


RARE, RARE_STOPPING = rare(2000, 3), rare(1000, 4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "linear"}, "schedule must be one_cycle, cosine or constant, not 'linear'"),
        ({"imbalance": "yes"}, "imbalance must be none, weighted or sampled, not 'yes'"),
        ({"calibration": "isotonic"}, "calibration must be none, temperature or platt, not 'isotonic'"),
        ({"precision": "int8"}, "precision must be float32, bfloat16 or float16, not 'int8'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, not nan"),
        ({"weight_decay": -1.0}, "must not be below 0"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotLearn, match=said):
        TrainingSettings.of(wrong)


def test_a_model_lists_only_what_it_wants_to_change() -> None:
    settings = TrainingSettings.of({"hidden": 16, "epochs": 2, "schedule": "cosine"}, seed=5)
    assert settings == TrainingSettings(epochs=2, schedule="cosine", seed=5)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_the_learning_rate_goes_as_its_schedule_says(schedule: str) -> None:
    steps = 20
    optimizer, scheduler = optimiser(network(), TrainingSettings(schedule=schedule, learning_rate=0.1), steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    if schedule == "constant":
        assert rates == pytest.approx([0.1] * steps)
    elif schedule == "cosine":
        assert rates[0] == pytest.approx(0.1)
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] < 0.002
    else:
        highest = int(np.argmax(rates))
        assert 4 <= highest <= 7
        assert rates[highest] == pytest.approx(0.1, rel=0.05)
        assert rates[0] == pytest.approx(0.004)
        assert rates[-1] < 0.001


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_every_schedule_learns(tmp_path: Path, schedule: str) -> None:
    net = network()
    fitted = training.fit(net, TRAINING, STOPPING, replace(SETTINGS, schedule=schedule), tmp_path / "c.pt")
    assert fitted.best.stopping_loss < 0.6


def test_weighted_classes_weigh_the_same_in_all() -> None:
    import torch

    weights = class_weights(BINARY, {0.0: 90, 1.0: 10}, TrainingSettings(imbalance="weighted"), "cpu")
    assert weights is not None
    assert 90 * float(weights[0]) == pytest.approx(10 * float(weights[1])) == pytest.approx(50)
    label = torch.tensor([0.0, 1.0])
    assert training_losses(BINARY, torch.zeros(2), label, weights).tolist() == pytest.approx(
        [0.6931 * float(weights[0]), 0.6931 * float(weights[1])], rel=1e-3
    )
    assert class_weights(BINARY, {0.0: 90, 1.0: 10}, TrainingSettings(), "cpu") is None


def test_sampled_classes_have_the_same_number_of_rows() -> None:
    settings = TrainingSettings(imbalance="sampled", batch_size=256)
    batches = InMemory(RARE, Shuffle(settings, ALONE, "cpu"))
    assert batches.classes[1.0] < 0.2 * len(RARE)
    seen = Counter(label for batch in batches.of_epoch(0, 0) for label in batch.label.tolist())
    assert sum(seen.values()) == len(RARE)
    assert 0.45 < seen[1.0] / len(RARE) < 0.55
    first, again = ([b.label.tolist() for b in batches.of_epoch(1, 2)] for _ in range(2))
    assert first == again == [b.label.tolist() for b in batches.of_epoch(1, 0)][2:]


@pytest.mark.parametrize("imbalance", ["weighted", "sampled"])
def test_rare_classes_are_found_more_often_and_platt_mends_the_probabilities(
    tmp_path: Path, imbalance: str
) -> None:
    import torch

    settings = replace(SETTINGS, imbalance=imbalance, epochs=6, calibration="platt")
    plain, balanced = network(), network()
    training.fit(plain, RARE, RARE_STOPPING, replace(settings, imbalance="none"), tmp_path / "p.pt")
    training.fit(balanced, RARE, RARE_STOPPING, settings, tmp_path / "b.pt")
    mended = calibrated(balanced, RARE_STOPPING, settings)
    numeric, categorical, label = RARE_STOPPING.tensors()
    with torch.no_grad():
        before, after, usual = (torch.sigmoid(net(numeric, categorical)) for net in (balanced, mended, plain))
    assert (before > 0.5).sum() > 2 * (usual > 0.5).sum()
    assert float(before.mean()) > 1.5 * float(label.mean())
    assert float(after.mean()) == pytest.approx(float(label.mean()), rel=0.02)
    assert torch.equal(before.argsort(), after.argsort()), "calibration changes no order"


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_calibration_travels_in_the_artefact(tmp_path: Path, kind: str) -> None:
    net = network()
    training.fit(net, TRAINING, STOPPING, SETTINGS, tmp_path / "c.pt")
    net.layers[-1].weight.data *= 12  # far too sure of itself
    sure = calibrated(net, STOPPING, SETTINGS)
    assert sure is net
    honest = calibrated(net, STOPPING, replace(SETTINGS, calibration=kind))
    assert training.mean_loss(honest, STOPPING) < training.mean_loss(net, STOPPING) - 0.05
    assert honest.scale < 0.5
    assert (float(honest.shift) == 0) == (kind == "temperature")
    path = tmp_path / "model.onnx"
    artefact.export(honest, ENCODER, path)
    assert artefact.difference(honest, path, STOPPING.numeric, STOPPING.categorical) < 1e-6
    artefact.export(net, ENCODER, tmp_path / "sure.onnx")
    arrays = STOPPING.numeric, STOPPING.categorical
    assert np.abs(Scorer(path).run(*arrays) - Scorer(tmp_path / "sure.onnx").run(*arrays)).max() > 0.1


def test_nothing_is_calibrated_on_labels_that_are_all_equal() -> None:
    same = replace(STOPPING, label=np.ones_like(STOPPING.label))
    with pytest.raises(CannotLearn, match="nothing can be calibrated"):
        calibrated(network(), same, TrainingSettings(calibration="platt"))


def test_every_kind_of_task_is_calibrated_or_refused() -> None:
    import torch

    class Sure(torch.nn.Module):
        """Three classes: of the first it is far too sure."""

        def forward(self, numeric: Any, categorical: Any) -> Any:
            return torch.stack([3 * numeric[:, 0], numeric[:, 1], numeric[:, 2]], dim=1)

    random = np.random.default_rng(0)
    numeric = random.normal(size=(3000, 3)).astype(np.float32)
    label = np.array([random.choice(3, p=p) for p in np.exp(numeric) / np.exp(numeric).sum(1, keepdims=True)])
    three = MulticlassClassification(classes=("a", "b", "c"))
    rows = Examples(numeric, np.zeros((3000, 0), np.int64), label.astype(np.float32), three)
    for kind in ("temperature", "platt"):
        mended = calibrated(Sure(), rows, TrainingSettings(calibration=kind))
        assert training.mean_loss(mended, rows) < training.mean_loss(Sure(), rows) - 0.1
    numbers = replace(rows, task=Regression(unit="m"))
    with pytest.raises(CannotLearn, match="calibration: platt is for classes, and a regression has none"):
        calibrated(Sure(), numbers, TrainingSettings(calibration="platt"))


def test_precision_and_compilation_are_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice only; test_training_gpu.py shows what a GPU makes of it, where there is one."""
    import torch

    wanted = TrainingSettings(precision="bfloat16", compile=True)
    third = Processes(rank=3, count=4, local_rank=1, on_machine=2)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(device_count=lambda: 1))
    assert Hardware.of(wanted, third) == Hardware("cpu", "float32", False)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(device_count=lambda: 2))
    assert Hardware.of(wanted, third) == Hardware("cuda:1", "bfloat16", True)
    assert Hardware.of(TrainingSettings(), ALONE) == Hardware("cuda:0", "float32", False)


def test_mixed_precision_computes_products_in_it_and_losses_in_full(tmp_path: Path) -> None:
    import torch

    with Hardware("cpu", "bfloat16").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with Hardware("cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert Hardware("cpu", "float16").scaler().is_enabled()
    assert not Hardware("cpu", "bfloat16").scaler().is_enabled()


def test_training_in_mixed_precision_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU only so that the loop's way through autocast is walked once."""
    mixed = Hardware("cpu", "bfloat16")
    monkeypatch.setattr(Hardware, "of", classmethod(lambda cls, settings, processes: mixed))
    fitted = training.fit(network(), TRAINING, STOPPING, SETTINGS, tmp_path / "c.pt")
    assert fitted.best.stopping_loss < 0.6
