from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sevenfold.data.weeks import LENGTH, Week, complete, of_key

ANCHOR = date(2013, 1, 1)
ZERO = datetime(2013, 1, 1, tzinfo=UTC)


def test_weeks_of_the_first_quarter():
    weeks = complete(ANCHOR, ZERO, datetime(2013, 4, 1, tzinfo=UTC))
    assert len(weeks) == 12
    assert weeks[0].key == "2013-01-01/2013-01-07" and weeks[-1].key == "2013-03-19/2013-03-25"
    assert all(after.follows(before) for before, after in pairwise(weeks))
    assert not weeks[2].follows(weeks[0])


def test_a_week_in_words():
    assert str(Week(datetime(2013, 6, 18, tzinfo=UTC))) == "18 to 24 June 2013"
    assert str(Week(datetime(2013, 4, 30, tzinfo=UTC))) == "30 April to 6 May 2013"
    assert str(Week(datetime(2013, 12, 31, tzinfo=UTC))) == "31 December 2013 to 6 January 2014"


def test_a_week_is_found_again_by_its_name() -> None:
    week = Week(datetime(2013, 12, 31, tzinfo=UTC))
    assert of_key(week.key) == week


def test_other_time_zones_do_not_move_weeks():
    east = timezone(timedelta(hours=9))
    start = datetime(2013, 1, 1, 9, tzinfo=east)
    assert complete(ANCHOR, start, start + LENGTH) == [Week(ZERO)]


@given(st.integers(-500, 500), st.integers(0, 60), st.integers(0, 23))
def test_weeks_are_whole_within_and_as_many_as_fit(first, length, hour):
    start = ZERO + timedelta(days=first, hours=hour)
    end = start + timedelta(days=length)
    weeks = complete(ANCHOR, start, end)
    assert all((week.start - ZERO) % LENGTH == timedelta() for week in weeks)
    assert all(start <= week.start and week.end <= end for week in weeks)
    fits = (end - ZERO) // LENGTH + (
        ZERO - start
    ) // LENGTH  # whole weeks before the end minus those begun before
    assert len(weeks) == max(0, fits)
