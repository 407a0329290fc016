"""A week's reading says what the rows hold, and its intervals count days, not rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sevenfold.data.weeks import complete
from sevenfold.model.tasks import BINARY
from sevenfold.monitoring import weekly

START = datetime(2020, 1, 1, tzinfo=UTC)
WEEKS = complete(date(2020, 1, 1), START, START + timedelta(weeks=3))


def joined(
    probability: np.ndarray, label: np.ndarray, candidate: str = "a", a_day: int = 50, first: int = 0
) -> pa.Table:
    n = len(probability)
    time = [START + timedelta(days=first + i // a_day, minutes=i % a_day) for i in range(n)]
    return pa.table(
        {
            "time": pa.array(time, pa.timestamp("us", "UTC")),
            "candidate": [candidate] * n,
            "label": pa.array(label, pa.float64(), from_pandas=True),
            "prediction": probability.astype(np.float32),
            "row": [i % 10 for i in range(n)],
            "service_us": [1000 + i // 10 for i in range(n)],
        }
    )


def test_a_week_by_hand() -> None:
    probability = np.tile([0.2, 0.4], 175)
    label = np.tile([0.0, 1.0, 0.0, np.nan, 1.0], 70)
    [found] = weekly.by_week(BINARY, joined(probability, label), WEEKS, 100)
    known = ~np.isnan(label)
    assert (found.week, found.candidate, found.rows, found.labelled) == (WEEKS[0], "a", 350, 280)
    assert found.observed.value == pytest.approx(0.5)
    assert found.over_expected.value == pytest.approx(140 / probability[known].sum())
    loss = -np.log(np.where(label[known] == 1, probability[known], 1 - probability[known])).mean()
    assert found.log_loss.value == pytest.approx(loss, rel=1e-6)
    entropy = -(probability * np.log(probability) + (1 - probability) * np.log(1 - probability))[known].mean()
    assert found.expected_log_loss == pytest.approx(entropy, rel=1e-6)
    assert found.excess_log_loss.value == pytest.approx(loss - entropy, rel=1e-5)
    assert found.over_expected.clusters == 7
    assert found.p50_ms == pytest.approx(1.017), "each request counts once"


def test_time_is_counted_once_a_request_however_many_rows_it_has() -> None:
    rows = joined(np.full(350, 0.5), np.tile([0.0, 1.0], 175))
    large = np.arange(350) < 200  # one slow request of 200 rows, and 150 fast ones of one row
    rows = rows.set_column(
        rows.column_names.index("row"), "row", pa.array(np.where(large, np.arange(350), 0))
    )
    place = rows.column_names.index("service_us")
    rows = rows.set_column(place, "service_us", pa.array(np.where(large, 90_000, 1000)))
    [found] = weekly.by_week(BINARY, rows, WEEKS, 100)
    assert (found.p50_ms, found.p99_ms) == (1, 1)


def test_a_model_that_is_right_is_as_expected() -> None:
    random = np.random.default_rng(0)
    probability = random.uniform(0.05, 0.95, 14_000)
    label = (random.random(14_000) < probability).astype(float)
    [found] = weekly.by_week(BINARY, joined(probability, label, a_day=2000), WEEKS[:1], 100)
    assert found.over_expected.low < 1 < found.over_expected.high
    assert found.excess_log_loss.low < 0 < found.excess_log_loss.high
    assert abs(found.excess_log_loss.value) < 0.01


def test_days_that_hang_together_widen_the_interval() -> None:
    random = np.random.default_rng(1)
    alone = (random.random(7000) < 0.3).astype(float)
    together = np.repeat(random.choice([0.1, 0.5], 7), 1000)
    together = (random.random(7000) < together).astype(float)
    readings = [
        weekly.by_week(BINARY, joined(np.full(7000, 0.3), label, a_day=1000), WEEKS[:1], 100)[0]
        for label in (alone, together)
    ]
    widths = [one.over_expected.high - one.over_expected.low for one in readings]
    assert widths[1] > 4 * widths[0]


def test_weeks_with_too_few_labels_are_left_out_and_candidates_are_kept_apart() -> None:
    half, label = np.full(350, 0.5), np.tile([0.0, 1.0], 175)
    unknown = np.where(np.arange(350) < 300, np.nan, label)
    both = pa.concat_tables(
        [
            joined(half, label),
            joined(half, unknown, first=7),
            joined(half, label, first=14),
            joined(half, label, "b", first=14),
        ]
    )
    found = weekly.by_week(BINARY, both, WEEKS, 100)
    assert [(one.week, one.candidate) for one in found] == [(WEEKS[0], "a"), (WEEKS[2], "a"), (WEEKS[2], "b")]


def test_labels_that_are_all_equal_have_no_auc() -> None:
    [found] = weekly.by_week(BINARY, joined(np.full(350, 0.5), np.zeros(350)), WEEKS, 100)
    assert np.isnan(found.second.value) and found.over_expected.value == 0
