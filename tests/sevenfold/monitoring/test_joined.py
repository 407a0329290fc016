"""Predictions and labels come together once, matured days only, whatever happens in between."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests import toy
from tests.activities.monitoring.traffic import between, give_back, serve

from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring import joined

MATURITY = timedelta(hours=36)
START = datetime(2020, 1, 1, tzinfo=UTC)
ROWS, LABELS = toy.build(lambda line: None)
PROBABILITY = np.linspace(0.05, 0.95, ROWS.num_rows)


class Place:
    def __init__(self, folder: Path) -> None:
        self.spec: ModelSpec = toy.spec_in(folder / "models")
        self.logs, self.joined = folder / "logs", joined.folder(folder, "toy")

    def play(self, first: int, end: int, candidate: str = "toy-a", **how: object) -> None:
        """The predictions of days first to end (day numbers from 0), without their labels."""
        rows = between(ROWS, START + timedelta(days=first), START + timedelta(days=end))
        offset = ROWS["id"].to_pylist().index(rows["id"][0].as_py())
        serve(self.logs, self.spec, candidate, rows, PROBABILITY[offset : offset + rows.num_rows], **how)

    def label(self, first: int, end: int) -> None:
        give_back(self.logs, "toy", between(LABELS_WITH_TIME, day(first), day(end)).drop_columns("time"))

    def update(self, as_of: datetime) -> joined.Joined:
        return joined.update(self.joined, self.logs, "toy", as_of, MATURITY)

    def read(self, as_of: datetime, **how: object) -> pa.Table:
        return joined.read(self.joined, as_of, MATURITY, **how)

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {
            path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in self.joined.glob("*.parquet")
        }


def day(number: int, hours: int = 0) -> datetime:
    return START + timedelta(days=number, hours=hours)


LABELS_WITH_TIME = LABELS.append_column("time", LABELS["known_at"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_only_matured_days_are_joined(place: Place) -> None:
    place.play(0, 5)
    place.label(0, 5)
    done = place.update(day(4, 12))  # the third day ended 36 hours ago
    assert [one.isoformat() for one in done.days] == ["2020-01-01", "2020-01-02", "2020-01-03"]
    assert (done.rows, done.labelled, done.waiting) == (150, 135, 2)
    assert place.update(day(4, 11)).days == ()
    rows = place.read(day(4, 12))
    assert rows.num_rows == 150 and rows["label"].null_count == 15
    assert place.read(day(4, 11)).num_rows == 100, "an earlier as_of must not see what had not matured then"


def test_rows_meet_their_own_label_and_features(place: Place) -> None:
    place.play(0, 2)
    place.label(0, 2)
    place.update(day(9))
    rows = place.read(day(9))
    truth = dict(zip(LABELS["id"].to_pylist(), LABELS["label"].to_pylist(), strict=True))
    features = {
        name: dict(zip(ROWS["id"].to_pylist(), ROWS[name].to_pylist(), strict=True))
        for name in ("height", "colour")
    }
    for name, label, height, colour, probability in zip(
        *(rows[column].to_pylist() for column in ("id", "label", "height", "colour", "prediction")),
        strict=True,
    ):
        assert label == truth.get(name)
        assert (height, colour) == (features["height"][name], features["colour"][name])
        assert probability == pytest.approx(PROBABILITY[int(name[-5:])], rel=1e-6)
    assert rows["width"].null_count == sum(width != width for width in ROWS["width"].to_pylist()[:100])


def test_again_changes_nothing(place: Place) -> None:
    place.play(0, 4)
    place.label(0, 4)
    place.update(day(6))
    before = place.files()
    assert place.update(day(6)).days == () and place.update(day(7)).days == ()
    assert place.files() == before


def test_a_run_that_was_killed_before_its_end_is_repeated(place: Place) -> None:
    place.play(0, 4)
    place.label(0, 4)
    place.update(day(6))
    before = {name: content for name, (_, content) in place.files().items()}
    (place.joined / "read.json").unlink()
    assert len(place.update(day(6)).days) == 4
    assert {name: content for name, (_, content) in place.files().items()} == before


def test_waiting_days_are_joined_when_they_mature(place: Place) -> None:
    place.play(0, 4)
    place.label(0, 4)
    assert len(place.update(day(3)).days) == 1
    assert [one.day for one in place.update(day(6)).days] == [2, 3, 4]


def test_a_day_that_is_played_again_for_a_challenger_is_joined_again(place: Place) -> None:
    place.play(0, 3)
    place.label(0, 3)
    place.update(day(6))
    place.play(1, 2, candidate="toy-b", arm="shadow")
    done = place.update(day(6))
    assert done.days == (date(2020, 1, 2),) and done.rows == 100
    assert place.read(day(6), arms=["shadow"]).num_rows == 50
    assert place.read(day(6), arms=["champion"]).num_rows == 150


def test_the_same_answer_twice_counts_once(place: Place) -> None:
    place.play(0, 1)
    place.play(0, 1, request="again")
    place.update(day(6))
    assert place.read(day(6)).num_rows == 50


def test_rows_without_an_id_are_kept_without_a_label(place: Place) -> None:
    place.play(0, 1, named=False)
    place.label(0, 1)
    place.update(day(6))
    rows = place.read(day(6))
    assert rows.num_rows == 50 and rows["label"].null_count == 50


def test_late_labels_are_added(place: Place) -> None:
    place.play(0, 3)
    place.label(0, 2)
    assert place.update(day(6)).labelled == 90
    place.label(2, 3)
    done = place.update(day(7))
    assert [one.day for one in done.days] == [3] and done.labelled == 45
    assert place.update(day(7)).days == ()


def test_a_label_is_not_known_before_it_is_known(place: Place) -> None:
    place.play(0, 1)
    late = LABELS.slice(0, 45).set_column(2, "known_at", pa.array([day(5)] * 45, pa.timestamp("us", "UTC")))
    give_back(place.logs, "toy", late)
    place.update(day(6))
    assert place.read(day(6))["label"].null_count == 5
    then = place.read(day(4))
    assert then.num_rows == 50 and then["label"].null_count == 50 and then["known_at"].null_count == 50


def test_a_line_that_is_being_written_is_read_when_it_is_whole(place: Place) -> None:
    place.play(0, 1)
    place.update(day(6))
    place.play(1, 2)
    *_, file = sorted((place.logs / "predictions" / "toy" / "toy-a").glob("*.jsonl"))
    whole = file.read_bytes()
    first_of_second_day = whole.index(b'{"t":"2020-01-02')
    file.write_bytes(whole[: first_of_second_day + 60])
    assert place.update(day(6)).days == ()
    file.write_bytes(whole[: whole.index(b"\n", first_of_second_day) + 1])
    done = place.update(day(6))
    assert [one.day for one in done.days] == [2] and done.rows == 10


def test_a_log_that_was_too_old_takes_nothing_along(place: Place) -> None:
    place.play(0, 3)
    place.update(day(6))
    [file] = (place.logs / "predictions" / "toy" / "toy-a").glob("*.jsonl")
    file.unlink()
    place.play(3, 4)
    assert [one.day for one in place.update(day(7)).days] == [4]
    assert place.read(day(7)).num_rows == 200, "what was joined stays"


def test_what_was_predicted_too_long_ago_goes_whatever_day_it_was_about(place: Place) -> None:
    place.play(0, 2)
    place.update(day(6))
    between_plays = datetime.now(UTC)
    place.play(1, 3, candidate="toy-b")
    place.update(day(6))
    assert [path.stem for path in joined.older(place.joined, between_plays)] == ["2020-01-01", "2020-01-02"]
    assert joined.expire(place.joined, between_plays) == 100
    rows = place.read(day(6))
    assert set(rows["candidate"].to_pylist()) == {"toy-b"} and rows.num_rows == 100
    assert [path.stem for path in joined.all_days(place.joined)] == ["2020-01-02", "2020-01-03"]
    assert joined.expire(place.joined, between_plays) == 0


def test_nothing_yet(place: Place) -> None:
    assert place.update(day(6)) == joined.Joined((), 0, 0, 0)
    rows = place.read(day(6), columns=["prediction"])
    assert rows.num_rows == 0 and "label" in rows.column_names


def test_columns_arms_and_start(place: Place) -> None:
    place.play(0, 4)
    place.update(day(9))
    rows = place.read(day(9), columns=["prediction"], start=day(2))
    assert rows.column_names == ["time", "arm", "candidate", "label", "known_at", "prediction"]
    assert rows.num_rows == 100 and rows["time"][0].as_py() >= day(2)
