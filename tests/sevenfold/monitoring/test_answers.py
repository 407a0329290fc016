"""The gateway's access log as counts by candidate and span of time."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path

import pytest

from sevenfold.monitoring import answers
from sevenfold.monitoring.answers import AccessLog, LogLate, count
from sevenfold.release.rollout import Arm

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


def refused(at: datetime, status: int, **gateway: str) -> str:
    """A request that a gateway answered without asking a replica."""
    return json.dumps(json.loads(line(at, None, status)) | gateway)


def write(logs: Path, *lines: str, end: str = "\n", gateway: str = "here", since: str = "a") -> None:
    folder = logs / answers.FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f"{gateway}.{since}.jsonl").open("a") as file:
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


def test_the_files_of_all_gateways_are_followed_from_one_to_the_next(tmp_path: Path) -> None:
    start = some_time_ago()
    before, after = start - timedelta(seconds=1), start + timedelta(seconds=1)
    write(tmp_path, *[line(start)] * 5)
    log = AccessLog(tmp_path, MODEL)
    torn = line(start, "e")
    write(tmp_path, line(start, "b"))
    write(tmp_path, torn[:30], end="")
    write(tmp_path, line(start, "c"), gateway="there")
    assert count(log.newest(), 100) == {"b": Arm(1), "c": Arm(1)}
    write(tmp_path, line(start, "d"), since="b")
    write(tmp_path, torn[30:])  # the gateway had not opened its new file yet
    assert count(log.between(before, after), 100) == {"d": Arm(1), "e": Arm(1)}
    (tmp_path / answers.FOLDER / "here.a.jsonl").unlink()
    assert log.newest() == [], "what was too old has gone, and nothing is read twice"


def test_what_is_there_is_read_back_from_a_moment_on_and_no_more_of_it_than_asked(tmp_path: Path) -> None:
    start = some_time_ago()
    long_ago = tmp_path / answers.FOLDER / "here.a.jsonl"
    write(tmp_path, line(start - timedelta(hours=2), "old"))
    os.utime(long_ago, (time.time() - 7200,) * 2)
    write(tmp_path, line(start, "b"), line(start, "c"), since="b")
    write(tmp_path, line(start, "d"), line(start, "e"), gateway="there", since="b")

    def found(since: datetime, most: float = inf) -> set[str]:
        return set(count(AccessLog(tmp_path, MODEL, since=since, most=most).newest(), 100))

    assert found(start) == {"b", "c", "d", "e"}
    assert found(start - timedelta(hours=3)) == {"old", "b", "c", "d", "e"}
    assert found(start, most=len(line(start, "c")) + 5) == {"c", "e"}, "the newest of each gateway"
    assert AccessLog(tmp_path, MODEL).newest() == []


def test_a_span_is_counted_when_the_marks_of_all_gateways_have_come(tmp_path: Path) -> None:
    start = some_time_ago()
    span = start - timedelta(seconds=1), start + timedelta(seconds=1)
    mark = partial(line, start, None)
    log = AccessLog(tmp_path, MODEL, marks=lambda: {"m1", "m2"})

    def slow_disk() -> None:
        write(tmp_path, line(start, "b"), mark(path="/healthz?mark=m1"))
        time.sleep(0.3)
        write(tmp_path, line(start, "c"), mark(path="/healthz?mark=m2"), gateway="there")

    thread = threading.Thread(target=slow_disk)
    thread.start()
    assert count(log.between(*span), 100) == {"b": Arm(1), "c": Arm(1)}
    thread.join()


def test_a_mark_that_does_not_come_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MARKS_LIMIT_S", 0.2)
    log = AccessLog(tmp_path, MODEL, marks=lambda: {"m"})
    with pytest.raises(LogLate, match="is it the same volume for both"):
        log.between(some_time_ago(), some_time_ago())


def test_what_ends_after_its_span_is_counted_with_the_next_and_what_nobody_asked_for_never(
    tmp_path: Path,
) -> None:
    start, second = some_time_ago(), timedelta(seconds=1)
    log = AccessLog(tmp_path, MODEL)
    assert log.between(start, start + second) == []
    write(tmp_path, line(start, status=504, us=9_000_000), line(start + 2 * second), line(start - second))
    found = log.between(start + 3 * second, start + 4 * second)
    assert [(one.at, one.status) for one in found] == [(start, 504)]
    assert log.between(start + 4 * second, start + 5 * second) == [], "once"


def test_no_gateway_no_answers(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, MODEL)
    assert log.last() is None
    now = datetime.now(UTC)
    assert log.between(now - timedelta(seconds=2), now - timedelta(seconds=1)) == []


def test_what_our_own_probes_of_another_gateway_are_told_no_caller_met(tmp_path: Path) -> None:
    """Preproduction's security check asks a gateway behind which nobody serves callers, on the same disk."""
    start = some_time_ago()
    log = AccessLog(tmp_path, MODEL, refused=True)
    write(tmp_path, refused(start, 503, gateway="preproduction"), refused(start, 503, gateway="staging"))
    write(tmp_path, refused(start, 503, gateway="production"), refused(start, 401))
    assert [answer.status for answer in log.newest()] == [503, 401]
