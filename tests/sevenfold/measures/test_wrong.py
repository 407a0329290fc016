"""Wrong decisions by part of a day, from logs written as the servers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest

from sevenfold.measures import wrong
from sevenfold.measures.wrong import wrong_decisions
from sevenfold.model.tasks import BINARY
from sevenfold.serving.log import FeedbackLog, PredictionLog
from sevenfold.serving.protocol import Signature

MODEL = "coin"
DAY = datetime(2013, 7, 1, tzinfo=UTC)
BEGAN = datetime.now(UTC) - timedelta(minutes=1)


class Logs:
    """Logs of one model; each answer is one row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        signature = Signature(("x",), ())
        self.logs = {who: PredictionLog(folder, MODEL, who, signature) for who in ("new", "old")}
        self.feedback = FeedbackLog(folder, MODEL)
        self.rows = 0

    def answer(self, who: str, hour: float, p: float, label: int | None, arm: str = "", id: str = "") -> None:
        self.rows += 1
        id, at = id or f"r{self.rows}", DAY + timedelta(hours=hour)
        inputs = [{"name": "numeric", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]
        body = {"inputs": inputs, "parameters": {"ids": [id], "time": at.isoformat()}}
        self.logs[who].append(
            time=at,
            request_id=f"q{self.rows}",
            arm=arm or {"new": "challenger", "old": "champion"}[who],
            prediction=np.array([p], np.float32),
            microseconds=100,
            request=orjson.dumps(body),
        )
        if label is not None:
            known = (at + timedelta(hours=3)).isoformat()
            self.feedback.append(orjson.dumps({"labels": [{"id": id, "label": label, "known_at": known}]}))

    def cohorts(self, hours: float, skip: set[str] | None = None) -> list[wrong.Cohort]:
        final = DAY + timedelta(hours=hours)
        return wrong_decisions(
            self.folder, MODEL, BINARY, "new", "old", since=BEGAN, final=final, skip=skip or ()
        )


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def test_both_arms_are_counted_by_part_of_the_day(logs: Logs) -> None:
    logs.answer("new", 1, 0.9, 1)
    logs.answer("new", 2, 0.9, 0)  # wrong
    logs.answer("old", 3, 0.1, 1)  # wrong
    logs.answer("old", 4, 0.1, 0)
    logs.answer("old", 5, 0.1, None)  # its label never came
    logs.answer("new", 7, 0.2, 1)  # wrong, in the next part
    first, second = logs.cohorts(24)
    assert (first.start, first.end) == (DAY, DAY + timedelta(hours=6))
    assert first.counts == {"e1": 1, "n1": 2, "e0": 1, "n0": 2}
    assert second.counts == {"e1": 1, "n1": 1, "e0": 0, "n0": 0}
    assert first.key < second.key


def test_a_part_that_is_not_final_is_left_out_whole(logs: Logs) -> None:
    for hour in (1, 5, 7):
        logs.answer("new", hour, 0.9, 1)
    assert [c.counts["n1"] for c in logs.cohorts(11.9)] == [2]
    assert logs.cohorts(5.9) == []
    assert [c.counts["n1"] for c in logs.cohorts(12)] == [2, 1]


def test_what_was_recorded_is_not_counted_again(logs: Logs) -> None:
    logs.answer("new", 1, 0.9, 1)
    logs.answer("new", 7, 0.9, 1)
    first, second = logs.cohorts(24)
    assert logs.cohorts(24, {first.key}) == [second]
    assert logs.cohorts(24, {first.key, second.key}) == []


def test_only_live_answers_count_and_those_beside_the_challenger(logs: Logs) -> None:
    logs.answer("old", 1, 0.1, 1)  # before the challenger's first answer
    logs.answer("new", 1, 0.9, 0, arm="direct")
    logs.answer("old", 1, 0.9, 0, arm="shadow")
    import time

    time.sleep(0.005)
    logs.answer("new", 2, 0.9, 1)
    logs.answer("old", 3, 0.9, 1)
    logs.answer("old", 3, 0.1, 1, id="r5")  # the same row once more: the first answer counts
    (cohort,) = logs.cohorts(24)
    assert cohort.counts == {"e1": 0, "n1": 1, "e0": 0, "n0": 1}


def test_nobody_answered(logs: Logs) -> None:
    assert logs.cohorts(24) == []
