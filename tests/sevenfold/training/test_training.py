"""Training learns, stops, and continues bit for bit after a kill; what cannot be learned is said."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.flight_delay.network import build
from sevenfold import training
from sevenfold.candidates import artefact
from sevenfold.data.tabular import BadColumns, Encoder
from sevenfold.settings import REPOSITORY
from sevenfold.training import BadCheckpoint, CannotLearn, Examples, TrainingSettings
from sevenfold.training.checkpoint import NotWritten

SETTINGS = TrainingSettings(epochs=4, batch_size=128, learning_rate=0.01, checkpoint_steps=3)
HYPERPARAMETERS = {"hidden": 16, "dropout": 0.2}


def examples(n: int, seed: int = 0) -> Examples:
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(n, 3)).astype(np.float32)
    categorical = random.integers(0, 4, (n, 2))
    odds = numeric[:, 0] - 2 * numeric[:, 1] + (categorical[:, 0] == 2)
    label = (random.random(n) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    numeric[random.random((n, 3)) < 0.05] = np.nan
    return Examples(numeric, categorical, label)


TRAINING, STOPPING = examples(1000), examples(300, seed=1)


def network() -> Any:
    import torch

    torch.manual_seed(0)
    return build(TRAINING.numeric, [4, 4], HYPERPARAMETERS)


def weights(of: Any) -> str:
    content = b"".join(value.numpy().tobytes() for value in of.state_dict().values())
    return hashlib.sha256(content).hexdigest()


def trained(checkpoint: Path, settings: TrainingSettings = SETTINGS) -> tuple[Any, training.Fitted]:
    net = network()
    return net, training.fit(net, TRAINING, STOPPING, settings, checkpoint)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    net, fitted = trained(tmp_path / "c.pt")
    assert training.mean_loss(net, STOPPING) == fitted.best.stopping_loss < 0.6
    assert fitted.best.stopping_loss == min(epoch.stopping_loss for epoch in fitted.history)
    assert [epoch.number for epoch in fitted.history] == [1, 2, 3, 4]
    assert training.verified(tmp_path / "c.pt", net)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert not training.verified(tmp_path / "c.pt", network())


PROGRAM = """
import sys
from pathlib import Path
from sevenfold import training
from sevenfold.training import checkpoint
from tests.sevenfold.training.test_training import SETTINGS, STOPPING, TRAINING, network, weights
net = network()
steps = checkpoint.Run.save
def dying(run):
    steps(run)
    if run.step >= int(sys.argv[2]):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Run.save = dying
training.fit(net, TRAINING, STOPPING, SETTINGS, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("step", [3, 8, 21])
def test_killed_and_resumed_it_ends_bit_for_bit_the_same(tmp_path: Path, step: int) -> None:
    whole, told_whole = trained(tmp_path / "whole.pt")
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "include")])
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "cut.pt"), str(step)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    resumed, told_resumed = trained(tmp_path / "cut.pt")
    assert step <= told_resumed.resumed_at < step + 3
    assert weights(resumed) == weights(whole)
    losses = [
        [(e.training_loss, e.stopping_loss) for e in told.history] for told in (told_whole, told_resumed)
    ]
    assert losses[0] == losses[1]


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    trained(path, replace(SETTINGS, learning_rate=0.001))
    _, fitted = trained(path)
    assert fitted.resumed_at == 0


@pytest.mark.parametrize("damage", ["rubbish", "half a file", "one bit"])
def test_a_damaged_checkpoint_is_said_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.pt"
    trained(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"rubbish": b"no checkpoint", "half a file": bytes(content[:500]), "one bit": bytes(content)}[damage]
    )
    left = path.read_bytes()
    with pytest.raises(BadCheckpoint, match=r"c\.pt is damaged .* remove it, and training begins anew"):
        trained(path)
    assert path.read_bytes() == left


def test_a_finished_checkpoint_trains_no_further(tmp_path: Path) -> None:
    first, _ = trained(tmp_path / "c.pt")
    again, fitted = trained(tmp_path / "c.pt")
    assert weights(again) == weights(first)
    assert fitted.resumed_at == 32


def test_patience_ends_training_that_gets_no_better(tmp_path: Path) -> None:
    impatient = replace(SETTINGS, epochs=40, learning_rate=0.05, patience=2)
    _, fitted = trained(tmp_path / "c.pt", impatient)
    assert len(fitted.history) == fitted.best.number + 2 < 40


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (replace(TRAINING, label=np.ones(1000, np.float32)), "all 1,000 labels of the training window are 1"),
        (replace(TRAINING, label=np.full(1000, 3, np.float32)), "must be 0 or 1, but 3.0 is among them"),
        (examples(0), "the training window has no labelled rows"),
        (replace(TRAINING, label=np.full(1000, np.nan, np.float32)), "must be 0 or 1, but nan"),
    ],
)
def test_labels_that_teach_nothing_are_refused(tmp_path: Path, spoilt: Examples, message: str) -> None:
    with pytest.raises(CannotLearn, match=message):
        training.fit(network(), spoilt, STOPPING, SETTINGS, tmp_path / "c.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_a_number_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        CannotLearn, match=r"the loss became (nan|inf) in epoch 1 with a learning rate of 1e\+35"
    ):
        trained(tmp_path / "c.pt", replace(SETTINGS, learning_rate=1e35, checkpoint_steps=100))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to let a file of this process grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole.pt")
    beginning = replace(SETTINGS, epochs=1, checkpoint_steps=100)
    trained(tmp_path / "beginning.pt", beginning)
    with_best_weights = (tmp_path / "beginning.pt").stat().st_size
    path = tmp_path / "disk" / "c.pt"
    with (  # the first epoch's checkpoints, without best weights yet, fit; the one after it does not
        files_of_at_most(with_best_weights - 1000),
        pytest.raises(NotWritten, match=r"of step 8 could not be written to .* \(File too large\)") as error,
    ):
        trained(path)
    assert error.value.retry
    assert [file.name for file in path.parent.iterdir()] == ["c.pt"]
    resumed, fitted = trained(path)
    assert fitted.resumed_at == 6
    assert weights(resumed) == weights(whole)


ENCODER = Encoder("toy", ("a", "b", "c"), ("x", "y"), {"x": ("1", "2", "3"), "y": ("1", "2", "3")})


def test_the_artefact_computes_what_the_network_computes(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "model.onnx"
    artefact.export(net, ENCODER, path)
    first = path.read_bytes()
    artefact.export(net, ENCODER, path)
    assert path.read_bytes() == first, "the same network must have the same digest"
    assert str(REPOSITORY).encode() not in first
    assert artefact.difference(net, path, STOPPING.numeric, STOPPING.categorical) < 1e-6
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    with_other_weights = network()
    with_other_weights.layers[0].weight.data += 1
    assert artefact.difference(with_other_weights, path, STOPPING.numeric, STOPPING.categorical) > 0.01


def test_the_artefact_scores_columns_with_the_vocabulary_it_carries(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    artefact.export(network(), ENCODER, path)
    scorer = artefact.Scorer(path)
    assert scorer.encoder == ENCODER
    row = {"a": [0.5], "b": [None], "c": [1e300], "x": ["2"], "y": ["never seen"]}
    probability = scorer.predict(row)
    assert probability.shape == (1,)
    assert 0 < probability[0] < 1
    assert scorer.predict({name: [] for name in row}).shape == (0,)


def test_files_that_are_no_artefact_are_refused(tmp_path: Path) -> None:
    import onnx

    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"no model")
    with pytest.raises(BadColumns, match=r"rubbish\.onnx is not an ONNX model"):
        artefact.Scorer(rubbish)
    artefact.export(network(), ENCODER, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(BadColumns, match="it is not one of Sevenfold's"):
        Encoder.from_onnx(tmp_path / "foreign.onnx")
