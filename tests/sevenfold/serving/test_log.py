"""The logs: nothing answered is lost, nothing torn is believed."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sevenfold.serving import tiny

from sevenfold.serving import log, log_files
from sevenfold.serving.log import AppendLog, FeedbackLog, PredictionLog
from sevenfold.serving.protocol import Signature

SIGNATURE = Signature(tiny.NUMERIC, tiny.CATEGORICAL)
NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)


def answer(
    writer: PredictionLog, rows: int = 2, time: datetime = NOON, request_id: str = "r", **more: Any
) -> None:
    body = json.dumps(
        tiny.request(rows, parameters={"ids": [f"{request_id}{i}" for i in range(rows)]}), indent=1
    )
    writer.append(
        time=time,
        request_id=request_id,
        arm=more.get("arm", "champion"),
        prediction=np.linspace(0, 1, rows, dtype=np.float32),
        microseconds=123,
        request=body.encode(),
    )


def test_what_was_answered_comes_back(tmp_path: Path) -> None:
    answer(PredictionLog(tmp_path, "tiny", "c1", SIGNATURE))
    table = log.predictions(tmp_path, "tiny")
    first, second = table.to_pylist()
    assert second == {
        "id": "r1",
        "time": NOON,
        "wall": second["wall"],
        "request": "r",
        "row": 1,
        "arm": "champion",
        "candidate": "c1",
        "prediction": 1.0,
        "service_us": 123,
        "distance": pytest.approx(0.01),
        "delay": None,
        "wind": 0.5,
        "origin": "JFK",
        "carrier": "AA",
    }
    assert first["prediction"] == 0.0
    assert abs(second["wall"] - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_request_is_one_line_however_it_was_laid_out(tmp_path: Path) -> None:
    answer(PredictionLog(tmp_path, "tiny", "c1", SIGNATURE))
    (file,) = tmp_path.glob("predictions/tiny/c1/*.jsonl")
    assert len(file.read_text().splitlines()) == 2  # the columns and the request
    assert file.stat().st_mode & 0o077 == 0


def test_windows_and_candidates(tmp_path: Path) -> None:
    one, two = (PredictionLog(tmp_path, "tiny", name, SIGNATURE) for name in ("c1", "c2"))
    for hour in range(4):
        answer(one, 1, NOON + timedelta(hours=hour), f"a{hour}")
        answer(two, 1, NOON + timedelta(hours=hour), f"b{hour}")
    start, end = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    assert log.predictions(tmp_path, "tiny", "c1", start, end)["request"].to_pylist() == ["a1", "a2"]
    assert log.predictions(tmp_path, "tiny", start=start).num_rows == 6
    assert log.predictions(tmp_path, "tiny", end=NOON).num_rows == 0
    assert log.predictions(tmp_path, "other").num_rows == 0


def test_candidates_with_other_columns_come_together(tmp_path: Path) -> None:
    answer(PredictionLog(tmp_path, "tiny", "c1", SIGNATURE))
    narrow = PredictionLog(tmp_path, "tiny", "c2", Signature(("speed",), ()))
    body = {"inputs": [{"name": "numeric", "shape": [1, 1], "datatype": "FP32", "data": [7]}]}
    narrow.append(
        time=NOON,
        request_id="n",
        arm="shadow",
        prediction=np.zeros(1, np.float32),
        microseconds=1,
        request=json.dumps(body).encode(),
    )
    table = log.predictions(tmp_path, "tiny")
    assert table["speed"].to_pylist().count(None) == 2
    assert table["wind"].to_pylist().count(None) == 1


def test_a_request_tried_twice_counts_once_but_its_mirror_counts(tmp_path: Path) -> None:
    writer = PredictionLog(tmp_path, "tiny", "c1", SIGNATURE)
    answer(writer, 1)
    answer(writer, 1)
    answer(writer, 1, arm="shadow")
    assert log.predictions(tmp_path, "tiny")["arm"].to_pylist() == ["champion", "shadow"]


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    answer(PredictionLog(tmp_path, "tiny", "c1", SIGNATURE), 1, request_id="a")
    (file,) = tmp_path.glob("predictions/tiny/c1/*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + whole.splitlines()[1][:100])
    assert log.predictions(tmp_path, "tiny")["request"].to_pylist() == ["a"]
    answer(PredictionLog(tmp_path, "tiny", "c1", SIGNATURE), 1, request_id="b")
    assert log.predictions(tmp_path, "tiny")["request"].to_pylist() == ["a", "b"]


def test_a_process_goes_on_in_a_new_file_before_a_day_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, answers = FeedbackLog(tmp_path, "tiny"), PredictionLog(tmp_path, "tiny", "c1", SIGNATURE)
    begun, folders = datetime.now(UTC), ("predictions/tiny/c1", "feedback/tiny")

    def append(number: int) -> None:
        answer(answers, 1, request_id=f"a{number}")
        known = {"id": f"l{number}", "label": 1, "known_at": NOON.isoformat()}
        labels.append(json.dumps({"labels": [known]}).encode())

    for number, hours in enumerate((0, 22, 23, 24, 72)):
        now = (begun + timedelta(hours=hours)).timestamp()
        monkeypatch.setattr(log, "seconds_now", lambda now=now: now)
        append(number)
    assert [len(log_files.files(tmp_path / folder)) for folder in folders] == [3, 3]
    assert log.predictions(tmp_path, "tiny")["request"].to_pylist() == [f"a{n}" for n in range(5)]
    assert log.feedback(tmp_path, "tiny")["id"].to_pylist() == [f"l{n}" for n in range(5)]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.jsonl"
    writer = AppendLog(file)
    writer.append(b"one")
    real = os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: real(descriptor, parts[0][:2]))
    with pytest.raises(OSError) as caught:
        writer.append(b"two")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    writer.append(b"three")
    assert file.read_bytes() == b"one\nthree\n"


def test_labels_come_back_with_what_was_known_last(tmp_path: Path) -> None:
    writer = FeedbackLog(tmp_path, "tiny")

    def label(name: str, value: float, hour: int) -> dict[str, Any]:
        return {"id": name, "label": value, "known_at": (NOON + timedelta(hours=hour)).isoformat()}

    writer.append(json.dumps({"labels": [label("a", 0, 2), label("b", 1, 1)]}, indent=2).encode())
    writer.append(json.dumps({"labels": [label("a", 1, 3), label("b", 1, 1)]}).encode())
    rows = log.feedback(tmp_path, "tiny").to_pylist()
    assert [(row["id"], row["label"], row["known_at"]) for row in rows] == [
        ("b", 1.0, NOON + timedelta(hours=1)),
        ("a", 1.0, NOON + timedelta(hours=3)),
    ]
    assert log.feedback(tmp_path, "tiny", end=NOON + timedelta(hours=3))["id"].to_pylist() == ["b"]
    assert log.feedback(tmp_path, "tiny", start=NOON + timedelta(hours=2))["id"].to_pylist() == ["a"]
    assert log.feedback(tmp_path, "other").num_rows == 0
