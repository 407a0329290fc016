"""The quick reader against the careful one: it may leave a request to it, but never read it differently."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.test_protocol import BAD

from sevenfold.serving.protocol import BadRequest, Request, Signature, parse_request
from sevenfold.serving.quick import read

SIGNATURE = Signature(tiny.NUMERIC, tiny.CATEGORICAL)
MORE = {"id": "mine", "parameters": {"ids": ["a", "é"], "time": "2013-06-01T01:00:00-04:00"}}
VALID = json.dumps(tiny.request(2, **MORE)).encode()


def same(body: bytes) -> bool:
    """Whether the quick reader read it; fails if it did and the careful one reads something else."""
    quick = read(body, SIGNATURE)
    if quick is None:
        return False
    careful = parse_request(body, SIGNATURE)
    np.testing.assert_array_equal(quick.numeric, careful.numeric)
    assert quick.numeric.dtype == careful.numeric.dtype
    assert quick._replace(numeric=careful.numeric) == careful
    return True


def test_the_usual_request_is_read_quickly() -> None:
    assert same(VALID)
    turned = tiny.request(2, **MORE)
    turned["inputs"].reverse()
    assert same(json.dumps(turned).encode())
    request = read(VALID, SIGNATURE)
    assert isinstance(request, Request)
    assert (request.ids, request.time) == (["a", "é"], datetime(2013, 6, 1, 5, tzinfo=UTC))


def test_flat_data_and_odd_requests_are_left_to_the_careful_reader() -> None:
    flat = tiny.request(2)
    for tensor in flat["inputs"]:
        tensor["data"] = [value for row in tensor["data"] for value in row]
    assert not same(json.dumps(flat).encode())
    assert parse_request(json.dumps(flat).encode(), SIGNATURE).rows == 2


@pytest.mark.parametrize(("spoil", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_no_fault_is_read_quickly(spoil: Any, sentence: str) -> None:
    document = tiny.request(1)
    spoil(document)
    assert read(json.dumps(document).encode(), SIGNATURE) is None


NUMBERS = st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=2)


@settings(max_examples=300)
@given(
    rows=st.lists(st.lists(NUMBERS, min_size=2, max_size=4), max_size=3),
    texts=st.lists(st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=3), max_size=3),
    shape=st.lists(st.integers(-1, 4), min_size=2, max_size=2),
)
def test_whatever_data_it_takes_is_taken_alike(rows: Any, texts: Any, shape: Any) -> None:
    document = tiny.request(2)
    document["inputs"][0] |= {"data": rows, "shape": shape}
    document["inputs"][1]["data"] = texts
    body = json.dumps(document).encode()
    try:
        parse_request(body, SIGNATURE)
    except BadRequest:
        assert read(body, SIGNATURE) is None
    same(body)


def test_bytes_changed_at_random_are_read_alike_or_left() -> None:
    """JSON at its edges: numbers, escapes, bytes that are no UTF-8, keys given twice."""
    chance = random.Random(7)
    odd = [
        b"1",
        b"-",
        b".",
        b"e",
        b'"',
        b"\\",
        b",",
        b"[",
        b"]",
        b"\n",
        b"\x00",
        b"\xff",
        b"\xe9",
        b"null",
        b"{",
    ]
    quickly = 0
    for _ in range(20_000):
        body = bytearray(VALID)
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(body))
            body[at : at + chance.randint(0, 1)] = chance.choice([*odd, bytes([chance.randrange(256)])])
        quickly += same(bytes(body))
    assert quickly > 500


@pytest.mark.parametrize(
    "twice",
    [b'"name": "categorical", ', b'"name": "numeric", ', b'"datatype": "FP64", ', b'"shape": [1, 3], '],
)
def test_keys_given_twice_are_read_alike(twice: bytes) -> None:
    same(VALID.replace(b'"name": "numeric", ', b'"name": "numeric", ' + twice))
    same(VALID.replace(b'"name": "numeric", ', twice + b'"name": "numeric", '))


@pytest.mark.parametrize(
    "value", ["1e39", "3.4028235e38", "3.40282356e38", "3.4028236e38", "1e-46", "-1e999", "null"]
)
def test_one_row_is_rounded_and_bounded_as_many_are(value: str) -> None:
    """One row takes a way of its own."""
    one, two = (json.dumps(tiny.request(rows)).replace("0.5", value).encode() for rows in (1, 2))
    assert same(one) == same(two)
