"""The narrator sees how far a candidate has come, also where it has gone on in the meantime."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.sevenfold.evidence_world import MODEL, World, candidate

from sevenfold.demo.story import Narrator


@pytest.fixture
def narrator(furnished_world: World) -> Narrator:
    nobody: Any = SimpleNamespace(awaiting_approval=list)
    return Narrator(
        spec=SimpleNamespace(name=MODEL),  # type: ignore[arg-type]
        store=furnished_world.store,
        settings=SimpleNamespace(),  # type: ignore[arg-type]
        requester=nobody,
        approver=nobody,
        player=lambda start, end: None,
        console=Console(quiet=True),
        approve_after=None,
    )


def test_a_candidate_that_has_gone_on_has_left_its_goal(furnished_world: World, narrator: Narrator) -> None:
    there = candidate("a")
    end = narrator.follow(lambda move: move.candidate == there.id, goal="testing")
    assert (end.environment, end.state) == ("testing", "promoted")
    furnished_world.begin(there, "production", "next")
    end = narrator.follow(lambda move: move.candidate == there.id, goal="preproduction")
    assert (end.environment, end.state) == ("preproduction", "promoted")


def test_a_candidate_that_was_refused_has_ended_its_way(furnished_world: World, narrator: Narrator) -> None:
    there = candidate("b")
    furnished_world.judged(there, "production", "Failed", "last")
    end = narrator.follow(lambda move: move.candidate == there.id, goal="production")
    assert (end.environment, end.state) == ("production", "refused")
