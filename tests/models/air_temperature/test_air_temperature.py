"""The second model: its data, its suite, and its way through the environments that know nothing of it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.activities.model_world import DEVELOPMENT, PREPRODUCTION, TESTING, TRAINING, ModelWorld

from activities.testing.validate_data import raw
from models.air_temperature import data
from sevenfold.candidates import artefact, lineage
from sevenfold.data.data_quality import validate
from sevenfold.data.snapshot import Leak, Snapshot, check, snapshot
from sevenfold.data.windows import windows
from sevenfold.model.spec import load_spec
from sevenfold.model.suite import KINDS, Case, read, run_suite
from sevenfold.settings import REPOSITORY
from sevenfold.training.learning import learn

SPEC = load_spec("air_temperature", REPOSITORY / "include" / "models")
AS_OF = datetime(2013, 8, 1, tzinfo=UTC)


@lru_cache(maxsize=1)
def weather() -> Snapshot:
    folder = tempfile.mkdtemp(prefix="sevenfold-weather-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return snapshot(SPEC, Path(folder), progress=lambda line: None)


@lru_cache(maxsize=1)
def year() -> tuple[pa.Table, pa.Table]:
    return data.build(lambda line: None)


def test_every_report_is_a_row_and_its_outcome_is_the_report_six_hours_later() -> None:
    rows, labels = year()
    assert (rows.num_rows, labels.num_rows) == (26_115, 26_020)
    temperature = dict(zip(rows["id"].to_pylist(), rows["temp"].to_pylist(), strict=True))
    time = dict(zip(rows["id"].to_pylist(), rows["time"].to_pylist(), strict=True))
    for number in np.random.default_rng(0).choice(labels.num_rows, 200, replace=False):
        name, label, known_at = (labels[column][int(number)].as_py() for column in labels.column_names)
        later = time[name] + timedelta(hours=6)
        assert known_at == later
        assert label == pytest.approx(temperature[f"{name[:3]}-{later:%Y%m%d%H}"], abs=1e-4)


def test_nothing_that_is_reported_later_changes_a_row() -> None:
    """Blanks all that is reported from noon of a day on: the rows before it stay as they are."""
    noon = datetime(2013, 3, 3, 12, tzinfo=UTC)
    reports = data.read()
    past = pc.less(reports["time_hour"], pa.scalar(noon, reports["time_hour"].type))
    known, _ = data.assemble(reports.filter(past))
    rows, _ = year()
    before = rows.filter(pc.less(rows["time"], pa.scalar(noon, rows["time"].type)))
    assert known.num_rows == before.num_rows > 4000
    for name in SPEC.columns:
        assert known[name].to_pylist() == pytest.approx(before[name].to_pylist(), nan_ok=True) or known[
            name
        ].equals(before[name])


def test_tomorrows_temperature_cannot_be_a_feature() -> None:
    """What a careless hand does: the temperature of the hour in question as `temp`, honestly dated."""
    rows, labels = year()
    later = pc.add(rows["now_known_at"], pa.scalar(timedelta(hours=6)))
    leaky = rows.set_column(rows.column_names.index("now_known_at"), "now_known_at", later)
    with pytest.raises(Leak, match=r"temp, dew_point.* of air_temperature would leak"):
        check(SPEC, leaky, labels)


def found(frame: Any, columns: list[str], window: tuple[datetime, datetime]) -> set[tuple[str, str]]:
    result = validate("weather", frame, SPEC.entry("expectations")(*window, columns))
    return {(failure.column, failure.severity) for failure in result.failures}


FAULTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("Fahrenheit", lambda frame: frame.assign(temp=(frame["temp"] * 1.8 + 32).astype("float32")), "temp"),
    ("a report twice", lambda frame: frame.iloc[[*range(len(frame)), 3]], "id"),
    ("another airport", lambda frame: frame.assign(airport="PHL"), "airport"),
    (
        "half the labels",
        lambda frame: frame.assign(label=frame["label"].where(frame.index % 2 == 0)),
        "label",
    ),
    ("a day missing", lambda frame: frame[frame["day"] != frame["day"].max()], "day"),
]


@pytest.mark.parametrize(("fault", "spoil", "column"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_what_is_broken_is_found(fault: str, spoil: Callable[[Any], Any], column: str) -> None:
    window = (datetime(2013, 7, 20, tzinfo=UTC), datetime(2013, 7, 27, tzinfo=UTC))
    frame, columns = raw(weather(), window, AS_OF)
    assert found(frame, columns, window) == set()
    assert (column, "critical") in found(spoil(frame), columns, window)


def test_what_no_sound_instrument_read_is_a_gap_and_no_outcome() -> None:
    """One reading of a year's, 24 degrees off, cost June's candidates .4 nats a row and their promotion."""
    rows, labels = year()
    at = {name: place for place, name in enumerate(rows["id"].to_pylist())}

    def report(name: str) -> dict[str, Any]:
        return rows.slice(at[name], 1).to_pylist()[0]

    broken = report("JFK-2013050902")
    assert all(np.isnan(broken[name]) for name in ("temp", "dew_point", "humidity", "temp_change_3h"))
    assert broken["pressure"] == pytest.approx(1016.9, abs=0.01), "the barometer was sound"
    assert "JFK-2013050820" not in labels["id"].to_pylist(), "what became of it nobody has read"
    assert report("JFK-2013050903")["temp"] == pytest.approx(14.0, abs=0.01), (
        "held against the last sound one"
    )
    storm = report("EWR-2013021208")
    assert all(np.isnan(storm[name]) for name in ("wind_speed", "wind_north", "wind_east"))
    assert not np.isnan(storm["temp"])


def test_a_real_change_is_believed_once_the_last_sound_reading_is_old() -> None:
    reports = data.read().filter(pc.equal(data.read()["origin"], "LGA")).slice(0, 12)
    cold = [40.0] * 6 + [80.0] * 6
    rows, _ = data.assemble(reports.set_column(reports.column_names.index("temp"), "temp", pa.array(cold)))
    known = [not np.isnan(temp) for temp in rows["temp"].to_pylist()]
    assert known == [True] * 6 + [False] + [True] * 5, "a report that is two hours younger counts"


def trained(folder: Path, spoil: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> list[Case]:
    of = windows(SPEC, AS_OF)
    fitting, stopping = (
        spoil(weather().labelled(*window, AS_OF, SPEC.columns)) for window in (of.fitting, of.stopping)
    )
    learned = learn(SPEC, fitting, stopping, SPEC.defaults, 0, folder / "checkpoint.pt")
    artefact.export(learned.network, learned.encoder, folder / "model.onnx")
    data_folder = weather().folder.parents[1]
    return read(run_suite(SPEC.folder / "tests", folder / "model.onnx", AS_OF.isoformat(), data_folder))


def failed(cases: list[Case]) -> set[str]:
    return {case.name for case in cases if case.outcome == "failed"}


def test_its_suite_lets_a_trained_candidate_pass(tmp_path: Path) -> None:
    cases = trained(tmp_path)
    assert failed(cases) == set()
    assert {case.kind for case in cases} == set(KINDS)


def test_its_suite_refuses_one_that_learned_from_shuffled_outcomes(tmp_path: Path) -> None:
    def shuffled(rows: pa.Table) -> pa.Table:
        mixed = np.random.default_rng(0).permutation(np.asarray(rows["label"]))
        return rows.set_column(rows.column_names.index("label"), "label", pa.array(mixed))

    assert "test_it_is_nearer_than_the_present_temperature" in failed(trained(tmp_path, shuffled))


@pytest.mark.parametrize("month", [5, 6])
def test_it_leaves_training_after_a_winter_and_in_spring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, month: int
) -> None:
    """Seasons that it has not seen yet are what its network and its data are made for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
    world = ModelWorld(tmp_path, SPEC.folder.parent, SPEC.name, datetime(2013, month, 1, tzinfo=UTC))
    world.run("training", TRAINING, hyperparameters={"epochs": SPEC.defaults["epochs"]})


def test_it_goes_through_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow on a file keeps its artifacts beside it
    monkeypatch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
    world = ModelWorld(tmp_path, SPEC.folder.parent, SPEC.name, AS_OF)
    idea = world.run("development", DEVELOPMENT, search_trials=1)
    candidate = world.run("training", TRAINING, idea)
    world.run("testing", TESTING, candidate, champion=idea)
    world.run("preproduction", PREPRODUCTION, candidate, champion=idea)
