"""A feature that nobody knows yet cannot get into a snapshot, nor can a label become a feature."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests import toy
from tests.activities.toy_world import ToyWorld
from tests.flights import flights

from activities.development import select
from sevenfold.data.snapshot import BadData, Leak, check, refuse_leaks, write
from sevenfold.strict_yaml import InvalidFile

SAID = "known_at: {time: [height, width, colour]}"
MEASURED = "known_at: {time: [height, colour], width_known_at: [width]}"
BUILD = toy.build
TEXT = toy.MODEL_YAML.replace(SAID, MEASURED)


def rows_known(after: timedelta) -> tuple[pa.Table, pa.Table]:
    """The toy's data, its width known so long after the moment of the prediction."""
    rows, labels = BUILD(lambda line: None)
    return rows.append_column("width_known_at", pc.add(rows["time"], pa.scalar(after))), labels


def test_what_is_known_in_time_is_taken(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path, TEXT)
    for known in (timedelta(0), timedelta(minutes=-5)):
        assert write(spec, tmp_path / f"snapshot{known.days}", *rows_known(known)).days


def test_a_feature_that_is_known_later_is_refused_by_row_and_time(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path, TEXT)
    with pytest.raises(
        Leak,
        match=r"width of toy would leak: width_known_at of row toy-00000 is 2020-01-01 00:10.*, and its "
        r"prediction is made at 2020-01-01 00:00.* \(3,000 of 3,000 rows\)",
    ):
        write(spec, tmp_path / "snapshot", *rows_known(timedelta(minutes=10)))
    assert not (tmp_path / "snapshot").exists()


def test_one_late_row_is_enough(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path, TEXT)
    rows, labels = rows_known(timedelta(0))
    times = rows["width_known_at"].to_pylist()
    times[1234] += timedelta(microseconds=1)
    late = rows.set_column(
        rows.column_names.index("width_known_at"), "width_known_at", pa.array(times, rows["time"].type)
    )
    with pytest.raises(Leak, match=r"row toy-01234 .*\(1 of 3,000 rows\)"):
        check(spec, late, labels)


def test_a_value_of_which_nobody_says_when_it_was_known_is_refused(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path, TEXT)
    rows, labels = rows_known(timedelta(0))
    known = pc.if_else(pc.is_nan(rows["width"]), pa.scalar(None, rows["time"].type), rows["time"])
    place = rows.column_names.index("width_known_at")
    check(spec, rows.set_column(place, "width_known_at", known), labels)  # no value, no time: nothing leaks
    nobody = pa.nulls(rows.num_rows, rows["time"].type)
    with pytest.raises(Leak, match=r"width of toy may leak: row toy-0000. has a value and no width_known_at"):
        check(spec, rows.set_column(place, "width_known_at", nobody), labels)
    with pytest.raises(BadData, match="the rows of toy lack the column width_known_at"):
        check(spec, rows.drop_columns("width_known_at"), labels)


def test_development_stops_at_a_leak_with_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ToyWorld(tmp_path)
    (world.spec.folder / "model.yaml").write_text(TEXT)
    monkeypatch.setattr(toy, "build", lambda progress: rows_known(timedelta(hours=1)))
    activity = world.activity("select", "development", "d1")
    activity.__dict__["spec"] = toy.spec_in(tmp_path / "leaky", TEXT)
    with pytest.raises(Leak, match="width of toy would leak"):
        select.main(activity)
    assert world.store.candidates("toy") == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("numeric: [height, width]", "numeric: [height, width, label]", "label cannot be a feature"),
        ("numeric: [height, width]", "numeric: [height, width, known_at]", "known_at cannot be a feature"),
        ("target: heads", "target: height", "the target height is among the features"),
        (SAID, "known_at: {time: [height, colour]}", "does not say when these are known: width"),
        (SAID, "known_at: {time: [height, width, colour, age]}", "names what is no feature: age"),
        (SAID, "known_at: {time: [height, width, colour], later: [width]}", "known_at names twice: width"),
        (f"  {SAID}\n", "", "Field required"),
    ],
)
def test_a_spec_says_of_every_feature_when_it_is_known(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in toy.MODEL_YAML
    with pytest.raises(InvalidFile, match=sentence):
        toy.spec_in(tmp_path, toy.MODEL_YAML.replace(old, new, 1))


def test_a_label_that_is_known_before_its_row_is_refused(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path)
    rows, labels = toy.build(lambda line: None)
    hour_early = pc.subtract(labels["known_at"], pa.scalar(timedelta(hours=2)))
    early = labels.set_column(labels.column_names.index("known_at"), "known_at", hour_early)
    with pytest.raises(BadData, match=r"label of row toy-00001 of toy is known at .* nothing to predict"):
        check(spec, rows, early)


def test_bad_labels_and_ids_are_one_sentence(tmp_path: Path) -> None:
    spec = toy.spec_in(tmp_path)
    rows, labels = toy.build(lambda line: None)
    place = labels.column_names.index("label")

    def with_label(value: float | None) -> pa.Table:
        values = labels["label"].cast(pa.float64()).to_pylist()
        values[7] = value
        return labels.set_column(place, "label", pa.array(values, pa.float64()))

    with pytest.raises(BadData, match=r"the labels of toy must be 0 or 1, but 2.0 is among them"):
        check(spec, rows, with_label(2.0))
    with pytest.raises(BadData, match="the labels of toy must be 0 or 1, but nan is among them"):
        check(spec, rows, with_label(None))
    with pytest.raises(BadData, match="the rows of toy have the id toy-00000 more than once"):
        check(spec, pa.concat_tables([rows, rows.slice(0, 1)]), labels)
    with pytest.raises(BadData, match="the labels of toy have the id toy-00001 more than once"):
        check(spec, rows, pa.concat_tables([labels, labels.slice(0, 1)]))


def test_flights_say_when_their_weather_and_events_were_known() -> None:
    spec, data = flights().spec, flights()
    rows = data.rows(*(spec.data.start + timedelta(days=day) for day in (10, 20)))
    refuse_leaks(spec, rows)
    for source in ("weather_known_at", "events_known_at"):
        known = rows[source].drop_null()
        assert len(known) > 0.9 * rows.num_rows
        age = pc.subtract(rows["time"], rows[source]).drop_null().cast(pa.int64()).to_numpy()
        assert (age >= 0).all() and np.median(age) < 3_600_000_000
