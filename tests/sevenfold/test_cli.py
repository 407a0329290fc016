"""The command line: what a person types wrong ends as one sentence and a non-zero exit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sevenfold.cli import app
from sevenfold.settings import settings

runner = CliRunner()


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("explain", "flight_delay"), "knows no promotion of 'flight_delay'"),
        (("explain", "flight_delay/testing/none"), "has no promotion flight_delay/testing/none"),
        (("explain", "flight_delay-000000000000"), "has no candidate flight_delay-000000000000"),
        (("promote", "flihgt_delay", "testing"), "there is no model 'flihgt_delay'"),
        (("promote", "flight_delay", "test"), "No environment is called 'test'"),
        (("promote", "flight_delay", "testing", "--candidate", "flight_delay-1"), "has no candidate"),
        (("rollback", "flight_delay", "--reason", "x"), "is served by nobody, and nobody was before"),
        (("gate", "nothing", "testing"), "there is no model 'nothing'"),
        (("revoke", "flight_delay/testing/none", "--reason", "x"), "has no promotion"),
    ],
)
def test_one_sentence_and_a_non_zero_exit(arguments: tuple[str, ...], sentence: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_gate_is_told_in_plain_words() -> None:
    told = " ".join(runner.invoke(app, ["gate", "flight_delay", "production"]).output.split())
    assert "Gate of flight_delay in production" in told
    assert "no champion" in told.lower() or "Without a champion" in told


def test_an_empty_store_is_as_it_was_written() -> None:
    assert "all evidence is as it was written" in runner.invoke(app, ["verify"]).output


def test_status_of_nothing() -> None:
    told = runner.invoke(app, ["status"]).output
    assert "nothing runs" in told
    assert "champion none" in told


def test_down_twice_is_no_error() -> None:
    assert runner.invoke(app, ["down"]).exit_code == 0
