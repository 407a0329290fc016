"""Train, test and sealed days never overlap, whatever the moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.data.windows import months_before, of_candidate, windows
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import load_spec

SPEC = load_spec("flight_delay")


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_the_first_candidate_of_the_story_trains_on_january_to_march() -> None:
    found = windows(SPEC, at(2013, 5, 1))
    assert found.training == (at(2013, 1, 1), at(2013, 4, 1))
    assert found.fitting == (at(2013, 1, 1), at(2013, 3, 25))
    assert found.stopping == (at(2013, 3, 25), at(2013, 4, 1))
    assert found.test == (at(2013, 4, 1), at(2013, 4, 21))
    assert found.sealed == (at(2013, 4, 21), at(2013, 5, 1))


def test_three_months_reach_back_from_the_holdout() -> None:
    assert windows(SPEC, at(2013, 11, 1), 3).training == (at(2013, 7, 2), at(2013, 10, 2))
    assert windows(SPEC, at(2013, 5, 1), 12).training[0] == at(2013, 1, 1)


def test_a_candidate_whose_window_was_shortened_is_followed_in_it() -> None:
    made = windows(SPEC, at(2013, 11, 1), 3)
    candidate = SimpleNamespace(as_of=made.as_of, train_window=made.training)
    assert of_candidate(SPEC, candidate) == made
    whole = windows(SPEC, made.as_of)
    candidate.train_window = whole.training
    assert of_candidate(SPEC, candidate) == whole


@given(st.integers(40, 364), st.one_of(st.none(), st.integers(1, 12)))
def test_the_windows_follow_each_other_up_to_as_of(days: int, months: int | None) -> None:
    as_of = at(2013, 1, 1) + timedelta(days=days)
    found = windows(SPEC, as_of, months)
    chain = [found.fitting, found.stopping, found.test, found.sealed]
    assert all(left[1] == right[0] for left, right in pairwise(chain))
    assert found.training == (found.fitting[0], found.stopping[1])
    assert found.sealed[1] == as_of
    assert all(start < end for start, end in chain)


def test_too_early_or_no_months_is_an_error_that_says_why() -> None:
    with pytest.raises(SevenfoldError, match="as of 2013-02-01 there is nothing to train flight_delay on"):
        windows(SPEC, at(2013, 2, 1))
    with pytest.raises(SevenfoldError, match="window_months must be at least 1"):
        windows(SPEC, at(2013, 6, 1), 0)


def test_months_before_keeps_to_the_month() -> None:
    assert months_before(at(2013, 5, 31), 3) == at(2013, 2, 28)
    assert months_before(at(2013, 1, 15), 1) == at(2012, 12, 15)
