"""Challenger against champion: only what is comparable is compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sevenfold.measures import arms
from sevenfold.model.tasks import BINARY

START = datetime(2020, 1, 1, tzinfo=UTC)
DAYS, A_DAY = 10, 200


def world(seed: int = 0, days: int = DAYS) -> tuple[np.ndarray, np.ndarray]:
    """The right probability of each row, days being easy or hard, and its label."""
    random = np.random.default_rng(seed)
    right = np.clip(
        np.repeat(random.uniform(0.1, 0.6, days), A_DAY) + random.normal(0, 0.1, days * A_DAY), 0.02, 0.98
    )
    return right, (random.random(len(right)) < right).astype(float)


def table(probability: np.ndarray, label: np.ndarray, keep: np.ndarray | None = None) -> pa.Table:
    n = len(probability)
    rows = pa.table(
        {
            "time": pa.array(
                [START + timedelta(days=i // A_DAY, seconds=i % A_DAY) for i in range(n)],
                pa.timestamp("us", "UTC"),
            ),
            "request": [f"r{i // 10}" for i in range(n)],
            "row": [i % 10 for i in range(n)],
            "label": pa.array(label, from_pandas=True),
            "prediction": probability,
        }
    )
    return rows if keep is None else rows.filter(pa.array(keep))


def test_mirrored_rows_are_compared_with_themselves() -> None:
    right, label = world()
    worse = np.clip(right * 0.6, 0.01, 0.99)
    found = arms.mirrored(BINARY, table(worse, label), table(right, label))
    assert found is not None
    loss = [-np.where(label == 1, np.log(p), np.log(1 - p)).mean() for p in (worse, right)]
    assert found.champion.log_loss.value == pytest.approx(loss[0])
    assert found.challenger.log_loss.value == pytest.approx(loss[1])
    assert found.difference.value == pytest.approx(loss[1] - loss[0]) and found.difference.high < 0
    assert found.difference.clusters == DAYS and found.difference.n == DAYS * A_DAY
    assert found.champion.over_expected.value == pytest.approx(label.sum() / worse.sum())


def test_the_same_model_twice_differs_by_nothing() -> None:
    right, label = world()
    found = arms.mirrored(BINARY, table(right, label), table(right, label))
    assert found is not None and found.difference.value == 0 and found.difference.se == 0


def test_only_rows_that_both_answered_and_that_have_a_label_count() -> None:
    right, label = world()
    label[::7] = np.nan
    seen = np.arange(len(right)) % 3 == 0
    found = arms.mirrored(BINARY, table(right, label), table(right, label, seen))
    assert found is not None and found.difference.n == int((seen & ~np.isnan(label)).sum())
    assert arms.mirrored(BINARY, table(right, label, seen), table(right, label, ~seen)) is None
    assert arms.mirrored(BINARY, table(right, np.full(len(right), np.nan)), table(right, label)) is None


def test_split_rows_are_compared_on_shared_days_only() -> None:
    right, label = world()
    day = np.arange(len(right)) // A_DAY
    of_challenger = np.random.default_rng(1).random(len(right)) < 0.3
    late = day >= 4
    found = arms.split(BINARY, table(right, label, ~of_challenger), table(right, label, of_challenger & late))
    assert found is not None
    assert found.challenger.log_loss.n == int((of_challenger & late).sum())
    assert found.champion.log_loss.n == int((~of_challenger & late).sum())
    gap = found.challenger.log_loss.value - found.champion.log_loss.value
    assert found.difference.value == pytest.approx(gap)
    assert found.difference.low < 0 < found.difference.high, "the same model in both arms"
    assert arms.split(BINARY, table(right, label, day < 3), table(right, label, day > 5)) is None


def test_split_finds_a_model_that_is_worse() -> None:
    right, label = world()
    worse = np.clip(right * 0.3, 0.01, 0.99)
    of_challenger = np.random.default_rng(1).random(len(right)) < 0.5
    found = arms.split(BINARY, table(right, label, ~of_challenger), table(worse, label, of_challenger))
    assert found is not None and found.difference.low > 0


def test_rows_that_hang_together_by_nothing_have_the_textbook_error() -> None:
    random = np.random.default_rng(3)
    right = random.uniform(0.1, 0.9, 200 * A_DAY)
    label = (random.random(len(right)) < right).astype(float)
    of_challenger = random.random(len(right)) < 0.2
    found = arms.split(BINARY, table(right, label, ~of_challenger), table(right, label, of_challenger))
    loss = -np.where(label == 1, np.log(right), np.log(1 - right))
    sides = [loss[of_challenger], loss[~of_challenger]]
    textbook = np.sqrt(sum(side.var() / len(side) for side in sides))
    assert found is not None and found.difference.se == pytest.approx(textbook, rel=0.2)


def test_the_interval_of_a_split_covers_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        right, label = world(seed)
        of_challenger = np.random.default_rng(1000 + seed).random(len(right)) < 0.3
        found = arms.split(BINARY, table(right, label, ~of_challenger), table(right, label, of_challenger))
        assert found is not None
        covered += found.difference.low <= 0 <= found.difference.high
    assert 180 <= covered <= 199, "95 % of 200, with the luck of 200"
