"""The server answers or refuses every edge case, and one that does half of both is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.activities.testing.test_contract import Changed
from tests.sevenfold.serving import tiny

from sevenfold.data.tabular import Encoder
from sevenfold.serving.app import ServingApp
from sevenfold.serving.model import ServedModel
from sevenfold.serving.server import application
from sevenfold.trials.edge_cases import EdgeCases

ROWS = [
    {"distance": 0.1, "delay": None, "wind": 1.0, "origin": "JFK", "carrier": "AA"},
    {"distance": 0.3, "delay": -2.0, "wind": 0.5, "origin": None, "carrier": "UA"},
]
REACH = {"distance": (0.0, 4.0), "delay": (-2.0, 2.0), "wind": (0.0, 3.0)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "tiny.onnx")


@pytest.fixture
def app(tmp_path: Path, file: Path) -> ServingApp:
    return application(tiny.MODEL, tiny.CANDIDATE, "testing", file, tmp_path / "logs")


def broken(app: Any, file: Path) -> dict[str, str]:
    """The promises that an app breaks, and how."""
    from starlette.testclient import TestClient

    client = TestClient(app, raise_server_exceptions=False)
    checks = EdgeCases(client, Encoder.from_onnx(file), ROWS, REACH).check()
    assert len(checks) > 30
    return {check.promise: check.violation for check in checks if check.violation}


def test_the_server_answers_or_refuses_everything(app: ServingApp, file: Path) -> None:
    assert broken(app, file) == {}


def _crashes(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return (500, b'{"error": "x"}') if status == 413 else (status, body)


def _no_numbers(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body.replace(b'"data":[1.0', b'"data":[null')


def _takes_everything(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return 200, body


def _refuses_the_unseen(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    many = status == 200 and len(orjson.loads(body)["outputs"][0]["data"]) == 1
    return (400, b'{"error": "no such origin"}') if many else (status, body)


def _beyond_its_bounds(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body.replace(b'"data":[0.', b'"data":[7.')


def _silent(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return (status, b"") if status >= 400 else (status, body)


@pytest.mark.parametrize(
    ("change", "promise", "said"),
    [
        (_crashes, "refuses 1,025 rows at once", "500"),
        (_no_numbers, "answers numbers far above their column, one at a time", "no numbers"),
        (_takes_everything, "refuses an empty body", "it answers 200"),
        (_refuses_the_unseen, "answers a row that lacks every value", "no such origin"),
        (_beyond_its_bounds, "answers ordinary rows", "lie between"),
        (_silent, "refuses a text where a number is needed", "cannot be read"),
    ],
)
def test_half_an_answer_is_seen(app: ServingApp, file: Path, change: Any, promise: str, said: str) -> None:
    found = broken(Changed(app, change), file)
    assert said in found[promise]
    assert len(found) < 30, "what is right is not called wrong"


@pytest.mark.parametrize(
    ("sees", "promise"),
    [
        (lambda texts: [[len(text or "")] for text in texts], "treats whatever it has not seen alike"),
        (lambda texts: [[len(texts)]] * len(texts), "answers a row alike in any company"),
    ],
    ids=["the length of a text", "the other rows"],
)
def test_a_model_that_sees_what_it_should_not_is_seen(
    app: ServingApp, file: Path, monkeypatch: pytest.MonkeyPatch, sees: Any, promise: str
) -> None:
    predict = ServedModel.predict

    def more(self: ServedModel, numeric: Any, categorical: Any) -> Any:
        return predict(self, numeric + np.float32(sees(categorical[0])) / 1e3, categorical)

    monkeypatch.setattr(ServedModel, "predict", more)
    assert promise in broken(app, file)
