"""Every interleaving of two promotions and a roll-back, with up to three kills: no invariant breaks."""

from __future__ import annotations

from tests.sevenfold.release.protocol import Design, explore, fenced, naive


def test_no_history_with_up_to_three_kills_breaks_an_invariant() -> None:
    found = explore(Design(fenced), kills=3)
    assert found.violations == {}
    assert found.states > 20_000, "the search went everywhere"


def test_the_search_catches_the_usual_way_without_any_kill() -> None:
    found = explore(Design(naive), kills=0)
    rule = "S2 at rest the router serves another one than the row says"
    assert rule in found.violations
    assert not any(step.startswith("kill") for step in found.violations[rule])


def test_the_search_catches_a_roll_back_that_rolls_back_to_the_bad_one() -> None:
    rules = explore(Design(naive), kills=1).violations
    assert "S4 a champion that was rolled back is champion again" in rules


def test_the_search_catches_a_router_that_takes_older_generations() -> None:
    rules = explore(Design(fenced, router_refuses=False), kills=0).violations
    assert "S5 the router went back to an older generation" in rules


def test_the_search_catches_promotions_without_an_end_mark() -> None:
    rules = explore(Design(fenced, end_marks=False), kills=0).violations
    assert "L2 finished promotions go on acting" in rules
    assert "S4 a candidate that was called off is tried again" in rules
