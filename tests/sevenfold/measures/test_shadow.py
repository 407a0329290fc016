"""Pairs of champion and shadow by request and row, against tables made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sevenfold.measures.shadow import losses, pair
from sevenfold.model.tasks import BINARY

START = datetime(2013, 5, 1, 12, tzinfo=UTC)


def table(answers: list[tuple[str, int, float]], us: float = 500.0, late_s: float = 0.0) -> pa.Table:
    """(request, row, probability), each request a day after the one before it."""
    order = {request: number for number, request in enumerate(dict.fromkeys(a[0] for a in answers))}
    times = [START + timedelta(days=order[request]) for request, _, _ in answers]
    walls = [START + timedelta(seconds=order[request] + late_s) for request, _, _ in answers]
    return pa.table(
        {
            "id": [f"{request}-{row}" for request, row, _ in answers],
            "time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "wall": pa.array(walls, pa.timestamp("us", tz="UTC")),
            "request": [request for request, _, _ in answers],
            "row": [row for _, row, _ in answers],
            "prediction": [p for _, _, p in answers],
            "service_us": [us] * len(answers),
        }
    )


CHAMPION = [("a", 0, 0.2), ("a", 1, 0.7), ("b", 0, 0.4), ("c", 0, 0.9)]
SHADOW = [("a", 1, 0.4), ("a", 0, 0.1), ("c", 0, 0.8)]


def test_rows_belong_together_by_request_and_row() -> None:
    pairs = pair(BINARY, table(CHAMPION), table(SHADOW, us=900.0, late_s=5))
    assert pairs.rows == 3
    assert pairs.champion.tolist() == [0.2, 0.7, 0.9]
    assert pairs.shadow.tolist() == [0.1, 0.4, 0.8]
    assert pairs.disagreements == 1
    assert pairs.difference.value == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert (pairs.requests, pairs.lost) == (3, 1)  # b has no line of the shadow
    assert pairs.slower_than(0.6) == (2, 0)


def test_no_shadow_no_pairs() -> None:
    pairs = pair(BINARY, table(CHAMPION), table(SHADOW).slice(0, 0))
    assert (pairs.rows, pairs.requests, pairs.lost, pairs.disagreements) == (0, 3, 3, 0)


def test_young_rows_can_be_left_out() -> None:
    pairs = pair(BINARY, table(CHAMPION), table(SHADOW, late_s=5)).before(START + timedelta(days=1))
    assert pairs.id.to_pylist() == ["a-0", "a-1"]
    assert pairs.shadow.tolist() == [0.1, 0.4]
    assert len(pairs.days) == 2


def test_loss_on_known_labels_only() -> None:
    pairs = pair(BINARY, table(CHAMPION), table(SHADOW, late_s=5))
    found = losses(pairs, pa.table({"id": ["c-0", "a-1", "other"], "label": [1.0, 0.0, 1.0]}))
    assert found is not None
    ours, theirs = -(np.log(1 - 0.7) + np.log(0.9)) / 2, -(np.log(1 - 0.4) + np.log(0.8)) / 2
    assert found.champion.value == pytest.approx(ours)
    assert found.shadow.value == pytest.approx(theirs)
    assert found.difference.value == pytest.approx(theirs - ours)
    assert found.difference.clusters == 2
    assert found.champion_calibration.value == pytest.approx(1 / (0.7 + 0.9))
    assert found.shadow_calibration.value == pytest.approx(1 / (0.4 + 0.8))
    assert losses(pairs, pa.table({"id": ["other"], "label": [1.0]})) is None
