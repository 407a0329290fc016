"""The encoder gives the same tensors whatever holds the columns, and refuses what does not fit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd  # noqa: TID253
import pyarrow as pa
import pytest

from sevenfold.data.tabular import BadColumns, Encoder

COLUMNS = {"a": [1, 2.5, None], "b": [0, 1, 2], "colour": ["red", None, "blue"], "other": [7, 7, 7]}
FITTED = Encoder.fit(pa.table(COLUMNS), "toy", ["a", "b"], ["colour"])


@pytest.mark.parametrize("holder", [dict, pa.table, pd.DataFrame])
def test_mappings_arrow_and_pandas_encode_alike(holder: Any) -> None:
    numeric, categorical = FITTED.encode(holder(COLUMNS))
    np.testing.assert_array_equal(numeric, np.array([[1, 0], [2.5, 1], [np.nan, 2]], np.float32))
    np.testing.assert_array_equal(categorical, [[2], [0], [1]])
    assert (numeric.dtype, categorical.dtype) == (np.float32, np.int64)


def test_the_vocabulary_is_what_training_saw_and_the_rest_is_unseen() -> None:
    assert FITTED.vocabulary == {"colour": ("blue", "red")}
    assert FITTED.cardinalities == [3]
    _, codes = FITTED.encode({"a": [0], "b": [0], "colour": ["mauve"]})
    assert codes.tolist() == [[0]]


def test_no_rows_are_rows_too() -> None:
    numeric, categorical = FITTED.encode(pa.table(COLUMNS).slice(0, 0))
    assert numeric.shape == (0, 2)
    assert categorical.shape == (0, 1)


def test_it_survives_json() -> None:
    again = Encoder.from_json(FITTED.to_json())
    assert again == FITTED
    assert json.loads(FITTED.to_json())["numeric"] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": None}, "lack the column a"),
        ({"a": ["1", "2", "3"]}, "column a must hold numbers"),
        ({"a": [[1], [2], [3]]}, "column a must hold numbers"),
        ({"colour": ["red"]}, "different lengths"),
    ],
)
def test_columns_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    columns = {name: values for name, values in (COLUMNS | change).items() if values is not None}
    with pytest.raises(BadColumns, match=message):
        FITTED.encode(columns)


def test_a_number_beyond_float32_is_infinite_and_raises_nothing() -> None:
    numeric, _ = FITTED.encode({"a": [1e300], "b": [0], "colour": ["red"]})
    assert np.isinf(numeric[0, 0])
