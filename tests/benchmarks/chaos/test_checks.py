"""The checks of the chaos run find what they are for: also a run that asked nothing, or lost an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.benchmarks.chaos.checks import requests
from tests.benchmarks.chaos.load import Said

FINE = Said(at=100.0, row=1, seconds=0.1, status=200, candidate="a", value=0.5, sentence="")


def broken(said: list[Said], asked: int | None = None, killed: tuple[float, ...] = ()) -> list[str]:
    load: Any = SimpleNamespace(asked=len(said) if asked is None else asked, wrong=lambda one: None)
    return list(requests(load, said, killed))


def other(status: int, sentence: str = "") -> Said:
    return Said(at=100.0, row=2, seconds=0.1, status=status, candidate="", value=None, sentence=sentence)


def test_answers_and_honest_refusals_are_fine() -> None:
    assert broken([FINE, other(503, "nobody serves it yet")]) == []
    assert broken([FINE, other(0, "ConnectError")], killed=(99.0,)) == []


def test_nothing_asked_nothing_answered_and_a_lost_request_are_not() -> None:
    assert broken([])
    assert broken([other(503, "nobody serves it yet")])
    assert broken([FINE], asked=2)


def test_no_answer_no_sentence_and_a_connection_lost_without_cause_are_not() -> None:
    for one in (other(-1), other(500), other(0, "ConnectError")):
        assert len(broken([FINE, one])) == 1
