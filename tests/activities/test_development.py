"""Development, from the data to a versioned idea: what each activity leaves, and what the gate judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests import toy
from tests.activities.toy_world import AS_OF, ToyWorld

from activities.development import explore, select, tune, validate, version
from sevenfold.candidates import lineage
from sevenfold.data.windows import rehearsal, windows
from sevenfold.development.exploration import Exploration
from sevenfold.development.exploration import explore as look
from sevenfold.development.rehearsal import Sample, rehearse
from sevenfold.errors import SevenfoldError
from sevenfold.gates.analysis import judge
from sevenfold.gates.policy import load_policy
from sevenfold.gates.verdict import Verdict
from sevenfold.settings import REPOSITORY

SLOW_TO_LEARN = toy.MODEL_YAML.replace("learning_rate: {default: 0.01", "learning_rate: {default: 0.001")
PARAMS = {"sample_rows": 900, "search_trials": 6, "seed": 1}
ORDER = {"explore": explore, "select": select, "tune": tune, "validate": validate, "version": version}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyWorld]:
    folder = tmp_path_factory.mktemp("development")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file keeps its artifacts beside it
        patch.setattr(lineage, "code", lambda: lineage.Code("c" * 40, ()))
        made = ToyWorld(folder, SLOW_TO_LEARN)
        toy.suite_in(made.spec)
        yield made


@pytest.fixture(scope="module")
def idea(world: ToyWorld) -> Any:
    """The promotion after its five activities; what each measured, by activity and metric."""
    for name, program in ORDER.items():
        program.main(world.activity(name, "development", "d1", **PARAMS))
    return world.store.promotion("toy/development/d1")


def measured(world: ToyWorld, name: str) -> Mapping[str, Any]:
    return world.measured(world.activity(name, "development", "d1", **PARAMS))


def page(world: ToyWorld, name: str) -> str:
    (path,) = {r.path for r in world.store.reports("toy/development/d1") if r.path.endswith(name)}
    return world.artifacts.read(path).decode()


def test_the_data_are_described_and_drawn(world: ToyWorld, idea: Any) -> None:
    found = measured(world, "explore")
    training = rehearsal(world.spec, AS_OF).training
    assert found["rows"].value == (training[1] - training[0]).days * toy.ROWS_A_DAY
    assert found["unlabelled_share"].value == pytest.approx(0.1, abs=0.001)
    assert found["missing_share"].value == pytest.approx(0.1 / 3, abs=0.01)
    assert found["constant_features"].value == found["suspicious_features"].value == 0
    said = page(world, "exploration.html")
    assert said.count("data:image/png;base64") == 7
    assert all(f">{name}</td>" in said for name in world.spec.columns)
    assert "1,800 rows of the training window, 10.0% of them without a label" in said


def test_the_idea_is_the_tuned_one_and_everything_judged_is_about_it(world: ToyWorld, idea: Any) -> None:
    candidate = world.store.candidate(idea.candidate)
    first = world.store.candidate(candidate.parent)
    assert first.hyperparameters["learning_rate"] == 0.001
    assert candidate.hyperparameters["learning_rate"] > 0.002
    assert candidate.data_snapshot == first.data_snapshot
    assert candidate.train_window == rehearsal(world.spec, AS_OF).training
    about = {
        name: {m.candidate for m in world.store.measurements(idea.id, name)}
        for name in ("explore", "tune", "validate", "version")
    }
    assert set().union(*about.values()) == {candidate.id}
    assert {m.candidate for m in world.store.measurements(idea.id, "select")} == {first.id}
    assert measured(world, "tune")["trials"].value == 6


def test_it_is_validated_on_days_that_decided_nothing(world: ToyWorld, idea: Any) -> None:
    found = measured(world, "validate")
    assert set(found) == {
        *("log_loss", "auc", "observed_over_expected", "log_loss_gain_over_constant", "failed_tests")
    }
    of = rehearsal(world.spec, AS_OF)
    assert (found["auc"].window_start, found["auc"].window_end) == (of.test[0], of.sealed[1])
    assert found["auc"].window_end == windows(world.spec, AS_OF).training[1]
    assert found["log_loss"].low < found["log_loss"].value < found["log_loss"].high < 0.69
    assert found["log_loss_gain_over_constant"].low > 0
    assert (found["failed_tests"].value, found["failed_tests"].n) == (0, 2)
    assert "data:image/png;base64" in page(world, "validation.html")


def test_the_whole_bundle_stands_in_the_candidate(world: ToyWorld, idea: Any) -> None:
    candidate = world.store.candidate(idea.candidate)
    assert candidate.code_commit == "c" * 40
    assert not candidate.code_dirty
    assert candidate.image_digests == lineage.environment_digest()
    sample = rehearse(world.spec, AS_OF, PARAMS, world.settings.data)
    assert candidate.data_snapshot == sample.digest
    assert measured(world, "version")["dirty_tree"].value == 0


def verdict(world: ToyWorld, run: str) -> Any:
    """What the flights' own gate says of a promotion of the toy."""
    text = (REPOSITORY / "include/models/flight_delay/gates/development.yaml").read_text()
    path = world.folder / "gate.yaml"
    path.write_text(
        text.replace("model: flight_delay", "model: toy").replace("min_sample: 500", "min_sample: 50")
    )
    promotion = world.store.promotion(f"toy/development/{run}")
    candidate = world.store.candidate(promotion.candidate)
    readings = world.store.measurements(promotion.id)
    gate = load_policy(path)
    return judge(
        gate, readings, candidate, promotion, datetime.now(UTC), champion=None, accepted={gate.hash: ""}
    )


def test_the_gate_lets_a_sound_idea_pass(world: ToyWorld, idea: Any) -> None:
    judged = verdict(world, "d1")
    assert judged.verdict is Verdict.SUCCESSFUL, judged.reason


def test_a_dirty_tree_is_marked_and_cannot_leave(
    world: ToyWorld, idea: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "code", lambda: lineage.Code("d" * 40, ("include/models/toy/network.py",)))
    cheap = PARAMS | {"search_trials": 0}
    for name, program in ORDER.items():
        program.main(world.activity(name, "development", "d-dirty", **cheap))
    candidate = world.store.candidate(world.store.promotion("toy/development/d-dirty").candidate)
    assert candidate.code_dirty
    assert candidate.hyperparameters["learning_rate"] == 0.001, "nothing was searched"
    judged = verdict(world, "d-dirty")
    assert judged.verdict is Verdict.FAILED
    refused = {result.metric for result in judged.metrics if result.verdict is Verdict.FAILED}
    assert refused == {"dirty_tree"}


def with_column(world: ToyWorld, values: Any) -> Exploration:
    """What is found when the toy's height is replaced by `values(rows)`."""
    sample = rehearse(world.spec, AS_OF, PARAMS, world.settings.data)

    class Changed(Sample):
        def labelled(self, window: Any, columns: tuple[str, ...] = ()) -> pa.Table:
            rows = super().labelled(window, columns)
            place = rows.column_names.index("height")
            return rows.set_column(place, "height", pa.array(values(rows), pa.float32()))

    return look(Changed(**{name: getattr(sample, name) for name in Sample.__dataclass_fields__}))


def test_constant_and_leaking_features_are_found(world: ToyWorld) -> None:
    constant = with_column(world, lambda rows: [4.0] * rows.num_rows)
    assert (constant.constant, constant.suspicious) == (["height"], [])
    leaking = with_column(world, lambda rows: pc.multiply(rows["label"], 2.5).to_pylist())
    assert (leaking.constant, leaking.suspicious) == ([], ["height"])
    nothing = with_column(world, lambda rows: [None] * rows.num_rows)
    assert nothing.constant == ["height"]
    assert nothing.missing > 0.3
    assert nothing.pictures(world.folder / "pictures")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sample_rows": -5}, "sample_rows must lie between 1 and 1,000,000, not -5"),
        ({"sample_rows": 10**7}, "sample_rows must lie between 1 and 1,000,000, not 10,000,000"),
    ],
)
def test_a_sample_that_cannot_be_meant_is_one_sentence(
    world: ToyWorld, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(SevenfoldError, match=said):
        rehearse(world.spec, AS_OF, given, world.settings.data)
