"""model.yaml is strict, and says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.toy import MODEL_YAML, spec_in

from sevenfold.errors import SevenfoldError
from sevenfold.model import tasks
from sevenfold.model.spec import UnknownModel, load_spec, models
from sevenfold.strict_yaml import InvalidFile


def test_the_flight_model_loads_and_its_entry_points_exist() -> None:
    spec = load_spec("flight_delay")
    assert len(spec.numeric) == 26
    assert spec.categorical == ("origin", "carrier", "dest", "dow", "hour")
    for name in spec.entry_points:
        assert callable(spec.entry(name))
    assert "flight_delay" in models()


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "what"),
    [
        ("owner: tests", "ownr: tests", 3, "ownr", "unknown key"),
        ("holdout_days: 12", "holdout_days: twelve", 18, "windows.holdout_days", "valid integer"),
        ("sealed_days: 4", "sealed_days: 12", 18, "windows", "fewer than holdout_days"),
        ("[height, width]", "[height, height]", 9, "features.numeric", "named twice: height"),
        ("tests.toy:build", "tests.toy", 20, "entry_points.data", "is no entry point"),
        ("task: binary_classification", "task: magic", 5, "task", "binary_classification"),
        ("  categorical: [colour]", "  categorical: [width]", 8, "features", "numeric and as categ"),
        ("name: toy", "name: [toy", 1, "", "not valid YAML"),
        (
            "{default: 0.01, range",
            "{default: small, range",
            24,
            "hyperparameters.learning_rate",
            "for numbers",
        ),
        ("{default: 0.01, range", "{default: 0.01, choices: [1], range", 24, "learning_rate", "both set"),
    ],
)
def test_an_error_names_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, key: str, what: str
) -> None:
    assert old in MODEL_YAML
    with pytest.raises(InvalidFile) as error:
        spec_in(tmp_path, MODEL_YAML.replace(old, new, 1))
    message = str(error.value)
    assert str(tmp_path / "toy" / "model.yaml") in message
    assert key in message
    assert what in message
    if key:
        assert f"line {line}," in message


REGRESSION = "task: regression\ntarget: heads\nunit: heads\ntolerance: 2"
CLASSES = "task: multiclass_classification\ntarget: heads\nclasses: [heads, tails, edge]"


@pytest.mark.parametrize(
    ("said", "name", "output"),
    [
        (REGRESSION, "regression", ("prediction", ("mean", "spread"))),
        (CLASSES, "multiclass_classification", ("probabilities", ("heads", "tails", "edge"))),
    ],
)
def test_a_task_is_made_of_what_the_spec_says(
    tmp_path: Path, said: str, name: str, output: tuple[str, tuple[str, ...]]
) -> None:
    binary = "task: binary_classification\ntarget: heads\npositive: heads"
    task = spec_in(tmp_path, MODEL_YAML.replace(binary, said)).task
    assert (task.name, (task.output.name, task.output.columns)) == (name, output)
    assert tasks.of(task.described()) == task


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("positive: heads\n", "", "task binary_classification needs positive"),
        (
            "positive: heads\n",
            "positive: heads\nclasses: [a, b, c]\n",
            "binary_classification has no classes",
        ),
        ("positive: heads\n", "positive: heads\ntolerance: 2\n", "binary_classification has no tolerance"),
        ("task: binary_classification", "task: regression", "task regression has no positive"),
        ("tolerance: 2", "tolerance: 0", "greater than 0"),
        ("classes: [heads, tails, edge]", "classes: [heads, tails]", "at least three different names"),
    ],
)
def test_a_task_needs_its_own_settings_and_no_others(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = MODEL_YAML
    for said in (REGRESSION, CLASSES):
        if old in said:
            binary = "task: binary_classification\ntarget: heads\npositive: heads"
            text = MODEL_YAML.replace(binary, said)
    assert old in text
    with pytest.raises(InvalidFile, match=sentence):
        spec_in(tmp_path, text.replace(old, new, 1))


def test_unknown_models_entry_points_and_foreign_names_are_refused(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    with pytest.raises(UnknownModel, match=r"no model 'coin'.*there are: toy"):
        load_spec("coin", tmp_path)
    with pytest.raises(UnknownModel):
        load_spec("../toy", tmp_path)
    with pytest.raises(UnknownModel, match="no entry point 'drift'"):
        spec.entry("drift")
    (tmp_path / "toy").rename(tmp_path / "toys")
    with pytest.raises(UnknownModel, match="says name: toy, but its folder is toys"):
        load_spec("toys", tmp_path)


def test_an_entry_point_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, MODEL_YAML.replace("tests.toy:build", "tests.toy:nothing"))
    with pytest.raises(UnknownModel, match=r"entry point data: tests\.toy:nothing cannot be imported"):
        spec.entry("data")


def test_a_slip_of_the_pen_behind_an_entry_point_is_one_sentence_too(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, MODEL_YAML.replace("tests.toy:build", "slipped:build"))
    (tmp_path / "slipped.py").write_text("def build((:\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(UnknownModel, match=r"slipped:build cannot be imported, .*slipped\.py, line 1"):
            spec.entry("data")


def test_overrides_change_hyperparameters_and_only_those(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    assert spec.hyperparameters_with({"learning_rate": 2, "epochs": 5.0}) == spec.defaults | {
        "learning_rate": 2.0,
        "epochs": 5,
    }
    with pytest.raises(SevenfoldError, match="no hyperparameter 'lr'; it has batch_size"):
        spec.hyperparameters_with({"lr": 1})
    for bad in ({"epochs": 2.5}, {"epochs": True}, {"learning_rate": "fast"}):
        with pytest.raises(SevenfoldError, match="must be"):
            spec.hyperparameters_with(bad)


def test_resources_fall_back_from_activity_to_environment_to_default(tmp_path: Path) -> None:
    text = MODEL_YAML + "resources:\n  training: {memory: 3Gi}\n  training.train: {gpu: 1}\n"
    spec = spec_in(tmp_path, text)
    assert spec.resources_of("training", "train").gpu == 1
    assert spec.resources_of("training", "benchmark").memory == "3Gi"
    assert spec.resources_of("testing", "contract").memory == "2Gi"
    with pytest.raises(InvalidFile, match="none of the seven"):
        spec_in(tmp_path / "other", MODEL_YAML + "resources:\n  cinema: {gpu: 1}\n")
