"""A column that gives the label away is seen, whatever it and the label are made of; chance is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sevenfold.development.leakage import associations

N = 4000
RANDOM = np.random.default_rng(3)
SIGNAL = RANDOM.normal(size=N)
BINARY = (SIGNAL + RANDOM.normal(size=N) > 0).astype(float)
CLASSES = np.digitize(SIGNAL, [-0.5, 0.5]).astype(float)
NUMBER = SIGNAL + RANDOM.normal(size=N)


def strength(values: Any, label: Any) -> float:
    (found,) = associations({"it": np.asarray(values)}, label)
    return found.strength


@pytest.mark.parametrize("label", [BINARY, CLASSES, NUMBER], ids=["binary", "classes", "number"])
def test_nothing_comes_of_noise_and_everything_of_the_label_itself(label: Any) -> None:
    noise = RANDOM.normal(size=N)
    texts = RANDOM.choice(["a", "b", "c"], N).astype(object)
    many = np.array([f"id-{i}" for i in range(N)], object)
    for harmless in (noise, texts, many, np.zeros(N)):
        assert strength(harmless, label) < 0.1
    assert strength(label, label) == pytest.approx(1)
    assert strength(-label, label) == pytest.approx(1)
    assert strength(np.array([f"{value:.0f}" for value in label], object), label) > 0.9


def test_an_honest_feature_lies_between() -> None:
    assert 0.3 < strength(SIGNAL, BINARY) < 0.7
    assert 0.3 < strength(SIGNAL, NUMBER) < 0.8


def test_a_gap_that_only_one_class_has_is_a_leak() -> None:
    gap = np.where(BINARY > 0.5, np.nan, RANDOM.normal(size=N))
    assert strength(gap, BINARY) == 1


def test_the_strongest_comes_first_and_labels_of_one_kind_say_nothing() -> None:
    columns = {"noise": RANDOM.normal(size=N), "signal": SIGNAL}
    assert [found.column for found in associations(columns, BINARY)] == ["signal", "noise"]
    assert {found.strength for found in associations(columns, np.ones(N))} == {0.0}
