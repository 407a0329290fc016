"""Rows in files: nothing lost, nothing changed, one part at a time, and what is broken is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.sevenfold.training.test_training import SETTINGS, STOPPING, TRAINING, examples, network, weights

from sevenfold import training
from sevenfold.model.tasks import Regression
from sevenfold.training import CannotLearn, Examples
from sevenfold.training.batches import Shuffle
from sevenfold.training.parts import DEALT_AT_ONCE, Parts, Streamed, batches_of, deal
from sevenfold.training.processes import ALONE, Processes


def pieces(of: Examples, size: int) -> list[Examples]:
    return [
        Examples(of.numeric[i : i + size], of.categorical[i : i + size], of.label[i : i + size])
        for i in range(0, len(of), size)
    ]


def same(one: Examples, other: Examples) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "numeric")
        for name in ("numeric", "categorical", "label")
    )


def test_one_part_is_the_rows_in_their_order(tmp_path: Path) -> None:
    parts = deal(pieces(TRAINING, 300), tmp_path / "p")
    assert parts.rows == [1000]
    assert same(parts.read(0), TRAINING)
    assert same(parts.read(0, 10), pieces(TRAINING, 10)[0])
    assert sum(parts.classes.values()) == 1000


def test_training_from_one_part_is_training_in_memory(tmp_path: Path) -> None:
    in_memory, from_file = network(), network()
    training.fit(in_memory, TRAINING, STOPPING, SETTINGS, tmp_path / "m.pt")
    training.fit(from_file, deal([TRAINING], tmp_path / "p"), STOPPING, SETTINGS, tmp_path / "f.pt")
    assert weights(in_memory) == weights(from_file)


def test_every_row_is_in_one_part_and_every_part_a_sample(tmp_path: Path) -> None:
    many = examples(DEALT_AT_ONCE + 20_000)  # dealt twice
    parts = deal(pieces(many, 50_000), tmp_path / "p", 3)
    assert sum(parts.rows) == len(many)
    read = [parts.read(number) for number in range(3)]
    together = np.sort(np.concatenate([part.numeric[:, 0] for part in read]))
    assert np.array_equal(together, np.sort(many.numeric[:, 0]), equal_nan=True)
    for part in read:
        assert len(part) == pytest.approx(len(many) / 3, rel=0.02)
        assert part.label.mean() == pytest.approx(many.label.mean(), abs=0.01)


def test_an_epoch_is_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    batches = Streamed(deal([TRAINING], tmp_path / "p", 4), Shuffle(SETTINGS, ALONE, "cpu"))
    orders = [np.concatenate([b.numeric[:, 1].numpy() for b in batches.of_epoch(e, 0)]) for e in (0, 1, 1)]
    assert np.array_equal(np.sort(orders[0]), np.sort(TRAINING.numeric[:, 1]), equal_nan=True)
    assert not np.array_equal(orders[0], orders[1], equal_nan=True)
    assert np.array_equal(orders[1], orders[2], equal_nan=True)
    sizes = [b.rows for b in batches.of_epoch(0, 0)]
    assert len(sizes) == batches.steps
    assert sum(sizes) == batches.rows == 1000
    whole = [b.numeric.numpy().tobytes() for b in batches.of_epoch(0, 0)]
    for first in range(batches.steps):
        assert [b.numeric.numpy().tobytes() for b in batches.of_epoch(0, first)] == whole[first:]


def test_processes_share_every_batch(tmp_path: Path) -> None:
    parts = deal([TRAINING], tmp_path / "p", 2)
    of = [batches_of(parts, Shuffle(SETTINGS, Processes(rank, 2), "cpu")).of_epoch(0, 0) for rank in (0, 1)]
    alone = batches_of(parts, Shuffle(SETTINGS, ALONE, "cpu")).of_epoch(0, 0)
    for first, second, whole in zip(*of, alone, strict=True):
        assert first.rows == second.rows == whole.rows == len(whole.label)
        assert np.array_equal(first.label, whole.label[0::2])
        assert np.array_equal(second.label, whole.label[1::2])


def test_one_part_at_a_time_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, read = deal([TRAINING], tmp_path / "p", 4), []
    original = Parts.read
    monkeypatch.setattr(Parts, "read", lambda self, number: read.append(number) or original(self, number))
    batches = Streamed(parts, Shuffle(SETTINGS, ALONE, "cpu"))
    going = batches.of_epoch(0, 0)
    next(going)
    assert len(read) == 1
    list(going)
    assert sorted(read) == [0, 1, 2, 3]
    read.clear()
    list(batches.of_epoch(0, batches.steps - 1))
    assert len(read) == 1, "a resumed run reads no part that it has done with"


def test_streamed_training_learns_as_much(tmp_path: Path) -> None:
    parts = deal([TRAINING], tmp_path / "p", 4)
    fitted = training.fit(network(), parts, STOPPING, SETTINGS, tmp_path / "c.pt")
    assert fitted.best.stopping_loss < 0.6


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("damage", [truncated, Path.unlink, lambda path: path.write_bytes(b"no Parquet")])
def test_a_broken_part_ends_training_with_its_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    parts = deal([TRAINING], tmp_path / "p", 3)
    damage(tmp_path / "p" / "part-00001.parquet")
    with pytest.raises(CannotLearn, match=r"part-00001\.parquet cannot be read"):
        training.fit(network(), parts, STOPPING, SETTINGS, tmp_path / "c.pt")


def test_parts_know_their_task(tmp_path: Path) -> None:
    numbers = replace(TRAINING, label=TRAINING.numeric[:, 0] * 0 + np.arange(1000), task=Regression(unit="m"))
    with pytest.raises(CannotLearn, match="the labels of the training window must be numbers"):
        deal([numbers], tmp_path / "training")
    numbers = replace(numbers, label=np.arange(1000, dtype=np.float32))
    parts = deal([numbers], tmp_path / "p", 2)
    assert parts.read(1).task == parts.task == Regression(unit="m")
    assert parts.classes == {0.0: 1, 999.0: 999}


def test_no_rows_are_no_parts(tmp_path: Path) -> None:
    with pytest.raises(CannotLearn, match="the training window has no labelled rows"):
        deal([], tmp_path / "training")
