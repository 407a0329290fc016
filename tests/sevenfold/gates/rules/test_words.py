"""Numbers, names and times as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sevenfold.gates.rules import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.51749, "0.517"),
        (-0.01, "-0.010"),
        (1, "1"),
        (1.414, "1.41"),
        (12.34, "12.3"),
        (100, "100"),
        (1234.5, "1,234"),
        (0.00001, "1e-05"),
    ],
)
def test_numbers(value: float, said: str) -> None:
    assert words.number(value) == said


def test_amounts_have_their_unit() -> None:
    assert words.amount(0.0123, "share") == "1.23 %"
    assert words.amount(12.3, "ms") == "12.3 ms"
    assert words.amount(0.5, "nats") == "0.500"
    assert words.interval(0.1, 0.2, "share", 0.025) == "95 % interval 10 % to 20 %"


def test_names() -> None:
    assert words.name("p99_ms", "ms") == "p99"
    assert words.name("log_loss_gain_over_constant", "nats") == "log loss gain over constant"
    assert words.name("auc") == "AUC"
    assert words.name("failed_tests", "tests") == "failed tests"
    assert words.name("calibration_ratio", "ratio") == "calibration ratio"


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ((2013, 4, 1), (2013, 5, 1), "April 2013"),
        ((2013, 4, 1), (2013, 4, 21), "1 to 20 April 2013"),
        ((2013, 4, 21), (2013, 4, 22), "21 April 2013"),
        ((2013, 1, 1), (2013, 4, 1), "1 January 2013 to 31 March 2013"),
        ((2013, 4, 21), (2013, 4, 21), "21 April 2013"),
    ],
)
def test_windows(start: tuple[int, int, int], end: tuple[int, int, int], said: str) -> None:
    assert words.window(datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (2, "2 s"),
        (90, "90 s"),
        (60, "1 min"),
        (5400, "90 min"),
        (129600, "36 h"),
        (86400, "1 day"),
        (604800, "7 days"),
        (129602, "36 h 2 s"),
    ],
)
def test_durations(seconds: int, said: str) -> None:
    assert words.duration(timedelta(seconds=seconds)) == said
