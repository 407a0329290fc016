"""When a log of the gateway goes on in a new file. What a real Envoy makes of it is in test_gateway."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sevenfold.gateway import logs
from sevenfold.gateway.logs import LinkedLog
from sevenfold.serving import log_files

NOW = datetime(2026, 11, 26, 1, 2, 3, 456789, UTC)


def begun(log: LinkedLog, at: datetime) -> Path:
    log.turn(at)
    assert log.file is not None
    return log.file


def test_a_new_file_begins_when_the_one_before_is_old_or_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "home.jsonl"
    log = LinkedLog(tmp_path / "logs", link)
    first = begun(log, NOW)
    assert (log_files.writer(first), log_files.since(first)) == (log_files.host(), NOW)
    assert not log.taken
    later = NOW + log_files.LONGEST
    assert begun(log, later) == first, "nobody has written to it yet"
    link.write_text("a line\n")  # as Envoy does, through the link
    assert log.taken and first.read_text() == "a line\n"
    assert begun(log, later - timedelta(seconds=1)) == first
    second = begun(log, later)
    assert (first.exists(), second.exists(), log.taken) == (True, False, False)
    link.write_text("longer\n")
    monkeypatch.setattr(logs, "LARGEST", 7)
    assert begun(log, later + timedelta(seconds=1)) != second


def test_logs_that_moved_and_a_host_of_another_name_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "home.jsonl"
    begun(LinkedLog(tmp_path / "logs", link), NOW)
    moved = begun(LinkedLog(tmp_path / "elsewhere", link), NOW)
    assert moved.parent == tmp_path / "elsewhere"
    monkeypatch.setattr(log_files, "host", lambda: "another")
    assert log_files.writer(begun(LinkedLog(tmp_path / "elsewhere", link), NOW)) == "another"


def test_a_file_of_another_name_is_older_than_any() -> None:
    assert log_files.since(Path("123.jsonl")).year == 1
