"""The gateway's access log as counts by candidate and span of time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sevenfold import answers
from sevenfold.answers import AccessLog, count
from sevenfold.rollout import Arm

MODEL = "flight_delay"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FLUSH", timedelta(0))


def some_time_ago() -> datetime:
    """Ten seconds ago, to the millisecond, as the log has it."""
    return (datetime.now(UTC) - timedelta(seconds=10)).replace(microsecond=0)


def line(at: datetime, candidate: str | None = "a", status: int = 200, us: int = 900, path: str = "") -> str:
    return json.dumps(
        {
            "t": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "path": path or f"/v2/models/{MODEL}/infer",
            "status": status,
            "us": us,
            "cluster": candidate and f"{candidate}.live",
            "route": MODEL,
        }
    )


def write(logs: Path, *lines: str, end: str = "\n") -> None:
    with (logs / answers.FILE).open("a") as file:
        file.write("\n".join(lines) + end)


def test_counts_by_candidate_within_the_span(tmp_path: Path) -> None:
    start = some_time_ago()
    second = timedelta(seconds=1)
    write(tmp_path, line(start))  # before the log was opened
    log = AccessLog(tmp_path, MODEL)
    write(
        tmp_path,
        line(start - second),
        line(start, us=150_000),
        line(start + second, "b", 503),
        line(start + second, "b"),
        line(start + second, None, 401),
        line(start + second, path="/v2/models/other/infer"),
        line(start + second, path=f"/v2/models/{MODEL}/feedback"),
        "torn {",
        line(start + 2 * second, "b"),
    )
    found = count(log.between(start, start + 2 * second), slow_ms=100)
    assert found == {"a": Arm(1, 0, 1), "b": Arm(2, 1, 0)}
    assert log.last() == start + 2 * second
    assert count(log.between(start + 2 * second, start + 3 * second), 100) == {"b": Arm(1)}
    assert log.between(start, start + 3 * second) == []


def test_a_line_that_is_being_written_is_counted_when_it_is_whole(tmp_path: Path) -> None:
    start = some_time_ago()
    log = AccessLog(tmp_path, MODEL)
    whole = line(start)
    write(tmp_path, whole[:40], end="")
    assert log.last() is None
    write(tmp_path, whole[40:])
    (answer,) = log.between(start - timedelta(seconds=1), start + timedelta(seconds=1))
    assert (answer.candidate, answer.purpose, answer.status, answer.milliseconds) == ("a", "live", 200, 0.9)


def test_a_new_file_of_the_same_name_is_read_from_its_beginning(tmp_path: Path) -> None:
    start = some_time_ago()
    write(tmp_path, *[line(start)] * 5)
    log = AccessLog(tmp_path, MODEL)
    (tmp_path / answers.FILE).write_text(line(start, "b") + "\n")
    assert count(log.between(start - timedelta(seconds=1), start + timedelta(seconds=1)), 100) == {
        "b": Arm(1)
    }


def test_no_gateway_no_answers(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, MODEL)
    assert log.last() is None
    now = datetime.now(UTC)
    assert log.between(now - timedelta(seconds=2), now - timedelta(seconds=1)) == []
