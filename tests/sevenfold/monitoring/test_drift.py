"""Distances from the reference, and limits that nothing of the reference itself exceeds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.data.weeks import complete, within
from sevenfold.monitoring import drift
from sevenfold.monitoring.drift import SCORE, BadReference, Reference

ANCHOR, START = date(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)
WEEKS, A_DAY = 6, 60
WINDOW = (START, START + timedelta(weeks=WEEKS))


def rows(
    weeks: int = WEEKS, shift: float = 0.0, colours: tuple[str, ...] = ("blue", "red"), seed: int = 0
) -> pa.Table:
    random = np.random.default_rng(seed)
    n = weeks * 7 * A_DAY
    size = random.normal(shift, 1, n) + 0.8 * np.sin(
        np.arange(n) / A_DAY / 3
    )  # weeks differ among themselves
    size[random.random(n) < 0.05] = np.nan
    return pa.table(
        {
            "time": pa.array(
                [START + timedelta(days=i // A_DAY, minutes=i % A_DAY) for i in range(n)],
                pa.timestamp("us", "UTC"),
            ),
            "size": pa.array(size, from_pandas=True),
            "colour": pa.array(random.choice(np.array(colours, object), n), pa.string()),
        }
    )


def scores(table: pa.Table) -> np.ndarray:
    return 1 / (1 + np.exp(-np.nan_to_num(table["size"].to_numpy())))


def reference(table: pa.Table | None = None) -> Reference:
    table = rows() if table is None else table
    return drift.reference("toy-a", table, scores(table), WINDOW, ["size"], ["colour"], ANCHOR)


def shifts(table: pa.Table, against: Reference | None = None) -> dict[str, drift.Shift]:
    return {one.column: one for one in drift.compare(against or reference(), table, scores(table))}


def test_psi_by_hand() -> None:
    # (0.9 - 0.5) ln(0.9 / 0.5) + (0.1 - 0.5) ln(0.1 / 0.5)
    assert drift.psi(np.array([0.5, 0.5]), np.array([0.9, 0.1])) == pytest.approx(0.8789, abs=1e-4)
    assert drift.psi(np.array([0.2, 0.8]), np.array([0.2, 0.8])) == 0
    assert np.isfinite(drift.psi(np.array([1.0, 0.0]), np.array([0.0, 1.0])))


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8), st.integers(0, 7))
def test_psi_is_a_distance(shares: list[float], turn: int) -> None:
    before = np.array(shares) / sum(shares)
    after = np.roll(before, turn)
    assert drift.psi(before, after) >= 0
    assert drift.psi(before, after) == pytest.approx(drift.psi(after, before))


def test_no_week_of_the_reference_exceeds_its_limits() -> None:
    table = rows()
    own = reference(table)
    assert own.weeks == WEEKS and own.limits[SCORE] > 0
    for week in complete(ANCHOR, *WINDOW):
        inside = within(table, week)
        found = drift.compare(own, inside, scores(inside))
        assert [one.column for one in found if one.drifted] == []
    reached = [shifts(within(table, week), own)["size"].psi for week in complete(ANCHOR, *WINDOW)]
    assert max(reached) == pytest.approx(own.limits["size"])
    assert own.limits["colour"] == 0.1, "a column that hardly changes may change a little"


def test_another_week_of_the_same_kind_is_near_and_a_shifted_one_is_not() -> None:
    usual, moved = shifts(rows(2, seed=1)), shifts(rows(1, shift=1.5, seed=1))
    assert not usual["colour"].drifted
    assert moved["size"].drifted and moved[SCORE].drifted and not moved["colour"].drifted
    assert moved["size"].psi > 5 * usual["size"].psi


def test_more_missing_values_are_drift() -> None:
    table = rows(1)
    gone = table.set_column(1, "size", pa.array([None] * table.num_rows, pa.float64()))
    assert shifts(gone)["size"].psi > 5


def test_an_unseen_value_is_drift_and_is_counted() -> None:
    found = shifts(rows(1, colours=("blue", "green")))["colour"]
    assert found.drifted and found.unseen == pytest.approx(0.5, abs=0.1)
    assert shifts(rows(1))["colour"].unseen == 0


def test_a_missing_text_is_a_value() -> None:
    table = rows(1)
    gone = table.set_column(2, "colour", pa.array([None] * table.num_rows, pa.string()))
    assert shifts(gone)["colour"].unseen == 1


def test_the_score_comes_first_then_what_drifted_most() -> None:
    found = drift.compare(reference(), rows(1, shift=1.5, colours=("green",)), scores(rows(1)))
    assert [one.column for one in found] == [SCORE, "colour", "size"]


def test_a_reference_survives_its_json() -> None:
    own = reference()
    again = Reference.model_validate_json(own.model_dump_json())
    assert again == own
    table = rows(1, shift=0.5)
    assert drift.compare(again, table, scores(table)) == drift.compare(own, table, scores(table))


def test_a_column_that_never_changes_and_one_that_is_never_there() -> None:
    table = rows()
    still = table.set_column(1, "size", pa.array(np.zeros(table.num_rows)))
    same = drift.reference("a", still, np.full(table.num_rows, 0.5), WINDOW, ["size"], [], ANCHOR)
    assert same.limits == {"size": 0.1, SCORE: 0.1}
    gone = table.set_column(1, "size", pa.array([None] * table.num_rows, pa.float64()))
    never = drift.reference("a", gone, scores(table), WINDOW, ["size"], [], ANCHOR)
    moved = {one.column: one for one in drift.compare(never, table, scores(table))}
    assert moved["size"].psi > 5


def test_what_cannot_be_a_reference_is_said() -> None:
    short = rows(3)
    window = (START, START + timedelta(weeks=3))
    with pytest.raises(BadReference, match="3 complete weeks, but limits of drift need 4"):
        drift.reference("toy-a", short, scores(short), window, ["size"], ["colour"], ANCHOR)
    with pytest.raises(BadReference, match="10 scores"):
        drift.reference("toy-a", short, np.zeros(10), window, ["size"], ["colour"], ANCHOR)
    with pytest.raises(BadReference, match="lack columns of the reference of toy-a: size"):
        drift.compare(reference(), short.drop_columns("size"), scores(short))
