"""What is served answers one row as it answers many, and keeps no answer that it gave."""

from __future__ import annotations

import numpy as np
import pytest
from tests.sevenfold.serving import tiny

from sevenfold.serving.model import ServedModel
from sevenfold.serving.protocol import BadRequest

ROWS = np.array([[0.1, np.nan, 0.5], [2.0, -1.0, 0.0], [np.nan, np.nan, -3.0]], np.float32)
TEXTS = [["JFK", "EWR", None], ["AA", "nobody", "UA"]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return ServedModel(tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def test_one_row_is_answered_as_among_many(served: ServedModel) -> None:
    together = served.predict(ROWS, TEXTS)
    alone = [served.predict(ROWS[i : i + 1], [[column[i]] for column in TEXTS]) for i in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert len(set(together.tolist())) == 3
    assert alone[0].dtype == together.dtype == np.float32


def test_one_row_that_cannot_be_computed_is_refused(served: ServedModel) -> None:
    beyond = np.array([[3e38, 3e38, -np.inf]], np.float32)
    with pytest.raises(BadRequest, match="row 0 holds numbers outside"):
        served.predict(beyond, [["JFK"], ["AA"]])
