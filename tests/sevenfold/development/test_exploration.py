"""What features are drawn against is a number that means something, whatever kind of task it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.toy import MODEL_YAML, spec_in

from sevenfold.development.exploration import Exploration

BINARY = "task: binary_classification\ntarget: heads\npositive: heads"
CLASSES = "task: multiclass_classification\ntarget: heads\nclasses: [heads, tails, edge]"
REGRESSION = "task: regression\ntarget: heads\nunit: heads\ntolerance: 2"


@pytest.mark.parametrize(
    ("task", "label", "name", "values", "mean"),
    [
        (BINARY, [0, 1, 1, 0], "heads", [0, 1, 1, 0], "mean outcome"),
        (REGRESSION, [0.5, -2, 7, 3], "heads", [0.5, -2, 7, 3], "mean outcome"),
        (CLASSES, [2, 1, 1, 0], "tails", [0, 1, 1, 0], "share of 'tails'"),
    ],
)
def test_classes_are_drawn_as_the_share_of_one(
    tmp_path: Path, task: str, label: list[float], name: str, values: list[float], mean: str
) -> None:
    head = MODEL_YAML[MODEL_YAML.index("task:") : MODEL_YAML.index("features:")]
    spec = spec_in(tmp_path, MODEL_YAML.replace(head, task + "\n"))
    columns = {"height": [1.0, 2.0, 3.0, 4.0], "width": [0.0, 1.0, 0.0, 1.0], "colour": ["red"] * 4}
    rows = pa.table({**columns, "label": [float(value) for value in label]})
    found = Exploration(spec, rows.select(["label"]), 4, rows, ())
    assert found.outcome[0] == name
    assert found.outcome[1].tolist() == values
    assert found.outcome_mean == mean
