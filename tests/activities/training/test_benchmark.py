"""The benchmark says plainly whom the network beats, on each metric, and whom it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from activities.training.benchmark import compare, in_words
from sevenfold.measures.quality import Rows
from sevenfold.model.tasks import BINARY, Regression

WINDOW = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
DAYS = np.repeat(np.arange(30), 100)
RANDOM = np.random.default_rng(0)


def test_a_network_that_does_not_beat_gradient_boosting_says_so() -> None:
    truth = 1 / (1 + np.exp(-RANDOM.normal(0, 1.5, len(DAYS))))
    rows = Rows((RANDOM.random(len(DAYS)) < truth).astype(float), DAYS, WINDOW)
    blurred = np.clip(0.5 + 0.5 * (truth - 0.5), 0, 1)
    noisy = np.clip(truth + RANDOM.normal(0, 0.1, len(DAYS)), 0.01, 0.99)
    constant = np.full(len(DAYS), rows.label.mean())
    predictions = {"network": blurred, "constant": constant, "noisy": noisy, "gradient_boosting": truth}
    gains = compare(BINARY, rows, predictions)
    on_loss, on_auc = (in_words(metric, gains[metric]) for metric in ("log_loss", "auc"))
    assert "On log loss the network beats constant; it does not beat" in on_loss
    assert "gradient boosting (worse: gain -0." in on_loss
    assert "On auc the network beats constant, noisy; it does not beat" in on_auc
    assert "gradient boosting (not proven better: gain +0.0000" in on_auc
    assert in_words("auc", {"constant": gains["auc"]["constant"]}) == "On auc the network beats constant."
    worst = compare(BINARY, rows, predictions | {"network": 1 - truth})
    assert "beats none of them; it does not beat constant (worse" in in_words("log_loss", worst["log_loss"])


def test_less_error_is_a_gain_too() -> None:
    label = RANDOM.normal(size=len(DAYS))
    near, far = (np.stack([label + off, np.ones(len(DAYS))], axis=1) for off in (0.1, 0.9))
    gains = compare(Regression(unit="m"), Rows(label, DAYS, WINDOW), {"network": near, "linear": far})
    assert gains["absolute_error"]["linear"].low > 0.7
    assert gains["log_loss"]["linear"].low > 0
