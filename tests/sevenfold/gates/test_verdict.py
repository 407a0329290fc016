"""The order of verdicts, every pair of it."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from sevenfold.gates.verdict import Verdict, worst

S, H, E, F = Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED

WORST_OF_PAIR = {
    (S, S): S,
    (S, H): H,
    (S, E): E,
    (S, F): F,
    (H, S): H,
    (H, H): H,
    (H, E): E,
    (H, F): F,
    (E, S): E,
    (E, H): E,
    (E, E): E,
    (E, F): F,
    (F, S): F,
    (F, H): F,
    (F, E): F,
    (F, F): F,
}


def test_the_table_has_every_pair() -> None:
    assert set(WORST_OF_PAIR) == set(product(Verdict, repeat=2))


@pytest.mark.parametrize(("pair", "expected"), WORST_OF_PAIR.items(), ids=str)
def test_worst_of_every_pair(pair: tuple[Verdict, Verdict], expected: Verdict) -> None:
    assert worst(pair) is expected
    assert max(pair) is expected
    left, right = pair
    assert (left <= right) == (expected is right)
    assert (left >= right) == (expected is left)
    assert (left < right) == (expected is not left)
    assert (left > right) == (expected is not right)


def test_worst_of_many_is_the_same_in_any_order() -> None:
    assert {worst(order) for order in permutations([S, H, E, S])} == {E}


def test_of_nothing_the_verdict_is_error() -> None:
    assert worst([]) is E


def test_verdicts_are_stored_as_their_names() -> None:
    assert [str(verdict) for verdict in Verdict] == ["Successful", "Inconclusive", "Error", "Failed"]
