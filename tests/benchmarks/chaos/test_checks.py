"""The checks of the chaos run find what they are for: also a run that asked nothing, or lost an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.benchmarks.chaos import checks
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


@pytest.mark.parametrize(
    ("breaks", "state", "kills", "problems"),
    [
        (False, "promoted", 0, 0),
        (False, "error", 3, 0),  # a task may be killed too often
        (False, "error", 0, 1),
        (False, "refused", 3, 1),
        (True, "refused", 0, 0),
        (True, "promoted", 3, 1),
    ],
)
def test_an_end_is_the_one_that_its_candidate_deserves(
    monkeypatch: pytest.MonkeyPatch, breaks: bool, state: str, kills: int, problems: int
) -> None:
    champion = "new" if state == "promoted" else "old"
    monkeypatch.setattr(checks.release, "row", lambda *_: SimpleNamespace(champion=champion))
    ended = SimpleNamespace(state=state, outcome="so it is")
    world: Any = SimpleNamespace(found=lambda _: ended, store=None)
    order: Any = SimpleNamespace(promotion="p", breaks=breaks, candidate=SimpleNamespace(id="new"))
    assert len(list(checks.ended(world, order, 10.0, 420.0, kills))) == problems
