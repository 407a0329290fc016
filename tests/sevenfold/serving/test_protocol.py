"""What a request may be, and one sentence for each thing that it may not be."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sevenfold.serving import tiny

from sevenfold.serving.protocol import (
    MAX_LABELS,
    MAX_ROWS,
    BadRequest,
    Signature,
    parse_feedback,
    parse_request,
    render_answer,
)

SIGNATURE = Signature(tiny.NUMERIC, tiny.CATEGORICAL)


def parse(document: Any) -> Any:
    return parse_request(json.dumps(document).encode(), SIGNATURE)


def test_rows_come_out_as_they_went_in() -> None:
    request = parse(
        tiny.request(2, id="mine", parameters={"ids": ["a", "b"], "time": "2013-06-01T01:00:00-04:00"})
    )
    assert request.rows == 2
    assert request.id == "mine"
    assert request.ids == ["a", "b"]
    assert request.time.isoformat() == "2013-06-01T05:00:00+00:00"
    np.testing.assert_array_equal(
        request.numeric, np.array([[0, np.nan, 0.5], [0.01, np.nan, 0.5]], np.float32)
    )
    assert request.categorical == [["JFK", "JFK"], ["AA", "AA"]]


def test_data_may_be_flat() -> None:
    flat = tiny.request(2)
    for tensor in flat["inputs"]:
        tensor["data"] = [value for row in tensor["data"] for value in row]
    np.testing.assert_array_equal(parse(flat).numeric, parse(tiny.request(2)).numeric)
    assert parse(flat).categorical == parse(tiny.request(2)).categorical


def test_the_order_of_inputs_does_not_matter() -> None:
    turned = tiny.request(1)
    turned["inputs"].reverse()
    assert parse(turned).categorical == [["JFK"], ["AA"]]


def change(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        target: Any = document
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return apply


BAD: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda d: d.pop("inputs"), "inputs must be a list"),
    (change(["inputs"], []), "inputs must be a list"),
    (change(["inputs", 0], 3), r"inputs\[0\] must be a JSON object"),
    (change(["extra"], 1), "unknown key 'extra'"),
    (change(["inputs", 0, "extra"], 1), "unknown key 'extra'"),
    (change(["inputs", 0, "name"], "other"), "must be numeric or categorical"),
    (change(["inputs", 0, "name"], ["numeric"]), "must be numeric or categorical"),
    (change(["inputs", 1, "name"], "numeric"), "numeric twice"),
    (lambda d: d["inputs"].pop(1), "lacks categorical with its 2 columns"),
    (change(["inputs", 0, "datatype"], "FP64"), "numeric.datatype must be FP32"),
    (change(["inputs", 1, "datatype"], "FP32"), "categorical.datatype must be BYTES"),
    (change(["inputs", 0, "shape"], [1]), "two integers"),
    (change(["inputs", 0, "shape"], [1, 3.0]), "two integers"),
    (change(["inputs", 0, "shape"], [True, 3]), "two integers"),
    (change(["inputs", 0, "shape"], [1, 4]), "has 4 columns; the model takes 3"),
    (change(["inputs", 0, "shape"], [0, 3]), "at least one row"),
    (change(["inputs", 0, "shape"], [-1, 3]), "at least one row"),
    (change(["inputs", 0, "shape"], [2, 3]), "must agree"),
    (change(["inputs", 0, "data"], "x"), "numeric.data must be a list"),
    (change(["inputs", 0, "data"], [1, 2]), "has 2 values; its shape asks for 3"),
    (change(["inputs", 0, "data"], [[1, 2, 3], [1, 2, 3]]), "must be 1 rows of 3 values"),
    (change(["inputs", 0, "data"], [[1, 2]]), "must be 1 rows of 3 values"),
    (change(["inputs", 0, "data"], [[[1], [2], [3]]]), "row 0, column distance, must be a number or null"),
    (change(["inputs", 0, "data", 0, 1], True), "row 0, column delay, must be a number or null"),
    (change(["inputs", 0, "data", 0, 2], "1.5"), "row 0, column wind, must be a number or null"),
    (change(["inputs", 0, "data", 0, 0], 1e39), "row 0, column distance, is too large for FP32"),
    (change(["inputs", 0, "data", 0, 0], -(10**50)), "row 0, column distance, is too large for FP32"),
    (change(["inputs", 1, "data", 0, 1], 3), "row 0, column carrier, must be a text or null"),
    (change(["id"], 7), "id must be a text"),
    (change(["id"], "x" * 201), "id must be a text"),
    (change(["outputs"], "probability"), "outputs must be a list"),
    (change(["outputs"], [{"name": "logit"}]), "must be probability"),
    (change(["parameters"], []), "parameters must be a JSON object"),
    (change(["parameters"], {"ids": ["a", "b"]}), "list of 1 texts"),
    (change(["parameters"], {"ids": [3]}), "must hold texts"),
    (change(["parameters"], {"time": "2013-06-01T05:00:00"}), "with its offset"),
    (change(["parameters"], {"time": "yesterday"}), "with its offset"),
    (change(["parameters"], {"time": 5}), "with its offset"),
    (change(["parameters"], {"time": "0001-01-01T00:00:00+14:00"}), "with its offset"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_each_fault_has_its_sentence(spoil: Callable[[dict[str, Any]], Any], sentence: str) -> None:
    document = copy.deepcopy(tiny.request(1))
    spoil(document)
    with pytest.raises(BadRequest, match=sentence) as caught:
        parse(document)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[NaN]", b'{"a": 1e400}', b"[" * 5000, b'"\\ud800"']
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the body is not JSON"):
        parse_request(body, SIGNATURE)


def test_too_many_rows_are_told_as_too_large() -> None:
    with pytest.raises(BadRequest, match=f"at most {MAX_ROWS}") as caught:
        parse(tiny.request(MAX_ROWS + 1))
    assert caught.value.status == 413


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "shape", "data", "ids", "inputs"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    value=JSON_VALUES,
    place=st.sampled_from(
        [
            ["inputs"],
            ["inputs", 0],
            ["inputs", 0, "data"],
            ["inputs", 1, "data", 0],
            ["inputs", 0, "shape"],
            ["parameters"],
            ["outputs"],
            ["id"],
        ]
    ),
)
def test_nothing_but_bad_request_is_ever_raised(value: Any, place: list[Any]) -> None:
    document = copy.deepcopy(tiny.request(2))
    change(place, value)(document)
    try:
        request = parse(document)
    except BadRequest as error:
        assert str(error)
    else:
        assert request.rows == 2


def test_an_answer_is_in_the_protocol() -> None:
    answer = json.loads(
        render_answer("tiny", "tiny-1", "mine", "probability", np.array([0.25, 0.5], np.float32))
    )
    assert answer == {
        "model_name": "tiny",
        "model_version": "tiny-1",
        "id": "mine",
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 0.5]}],
    }


LABEL = {"id": "a", "label": 1, "known_at": "2013-06-01T05:00:00Z"}


def test_labels_are_counted() -> None:
    assert parse_feedback(json.dumps({"labels": [LABEL, LABEL]}).encode()) == 2


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([], "at least one label"),
        ("x", "at least one label"),
        ([3], r"labels\[0\] must be a JSON object"),
        ([LABEL, {**LABEL, "id": ""}], r"labels\[1\].id"),
        ([{"label": 1, "known_at": LABEL["known_at"]}], r"labels\[0\].id is missing"),
        ([{**LABEL, "label": True}], r"labels\[0\].label must be a number"),
        ([{**LABEL, "label": "1"}], r"labels\[0\].label must be a number"),
        ([{**LABEL, "known_at": "2013-06-01"}], r"labels\[0\].known_at must be an ISO 8601 time"),
        ([{**LABEL, "more": 1}], "unknown key 'more'"),
        ([LABEL] * (MAX_LABELS + 1), f"at most {MAX_LABELS}"),
    ],
)
def test_bad_labels_have_their_sentence(labels: Any, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        parse_feedback(json.dumps({"labels": labels}).encode())
