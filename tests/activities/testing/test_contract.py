"""The contract is kept by the real server and seen broken by servers that break it, each in its own way."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from tests.sevenfold.serving import tiny

from activities.testing import contract
from sevenfold.candidates.artefact import Scorer
from sevenfold.errors import SevenfoldError
from sevenfold.serving.app import ServingApp
from sevenfold.serving.server import application
from sevenfold.settings import REPOSITORY
from sevenfold.trials.conformance import Check, Conformance
from sevenfold.trials.lone_server import DidNotStart, started

COLUMNS: dict[str, list[Any]] = {
    "distance": [0.1, None, 0.3, 4.0],
    "delay": [None, 1.0, -2.0, 0.0],
    "wind": [1.0, 2.0, 3.0, 0.5],
    "origin": ["JFK", "nowhere", None, "EWR"],
    "carrier": ["AA", "UA", "AA", None],
}


@pytest.fixture
def app(tmp_path: Path) -> ServingApp:
    file = tiny.write(tmp_path / "tiny.onnx")
    return application(tiny.MODEL, tiny.CANDIDATE, "testing", file, tmp_path / "logs")


Asgi = Callable[..., Any]


def broken(app: Asgi, tmp_path: Path, bias: float = 0.0) -> list[Check]:
    """The promises that an app breaks."""
    from starlette.testclient import TestClient

    scorer = Scorer(tiny.write(tmp_path / "golden.onnx", bias))
    client = TestClient(app, raise_server_exceptions=False)
    golden = scorer.predict(COLUMNS)
    checks = Conformance(client, tiny.CANDIDATE, scorer.encoder, COLUMNS, golden).check()
    return [check for check in checks if check.violation]


def test_the_server_keeps_every_promise(app: ServingApp, tmp_path: Path) -> None:
    assert broken(app, tmp_path) == []


def test_answers_of_another_model_file_are_seen(app: ServingApp, tmp_path: Path) -> None:
    found = broken(app, tmp_path, bias=0.01)
    assert "answers golden rows as the artefact computes them" in {check.promise for check in found}
    assert "away from the artefact's" in str(found[0].violation)


class Changed:
    """An app whose bodies or statuses are changed on their way out."""

    def __init__(self, app: Asgi, change: Callable[[str, int, bytes], tuple[int, bytes]]) -> None:
        self.app, self.change = app, change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        started: dict[str, Any] = {}

        async def changed(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
                return
            status, body = self.change(scope["path"], started["status"], message["body"])
            headers = [(k, v) for k, v in started["headers"] if k != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            await send(started | {"status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, changed)


def _other_candidate(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body.replace(tiny.CANDIDATE.encode(), b"tiny-ffffffffffff")


def _crashes_on_nonsense(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return (500, body) if status == 400 else (status, body)


def _no_sentence(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, b"{}" if status >= 400 else body


def _wrong_columns(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    if path != "/v2/models/tiny":
        return status, body
    said = orjson.loads(body)
    said["inputs"][0]["shape"] = [-1, 2]
    return status, orjson.dumps(said)


def _page_instead_of_json(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, b"<html>" if path == "/v2" else body


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (_other_candidate, "says which candidate answered, and the caller's id"),
        (_crashes_on_nonsense, "refuses NaN, which is no JSON"),
        (_no_sentence, "refuses a model it does not have"),
        (_wrong_columns, "says what the model takes and gives"),
        (_page_instead_of_json, "says what it is"),
    ],
)
def test_broken_promises_are_seen(
    app: ServingApp, tmp_path: Path, change: Callable[[str, int, bytes], tuple[int, bytes]], promise: str
) -> None:
    assert promise in {check.promise for check in broken(Changed(app, change), tmp_path)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "include")]))
    tiny.write(tmp_path / f"{tiny.CANDIDATE}.onnx")
    return tmp_path


def test_a_started_server_is_asked_by_schemathesis_and_is_gone_afterwards(home: Path) -> None:
    command = [sys.executable, tiny.__file__, "--model", tiny.MODEL, "--candidate", tiny.CANDIDATE]
    with started([*command, "--slot", "testing", "--drain", "0"], home) as server:
        found = contract.fuzz(f"{server.url}/openapi.json", home)
        page = httpx.get(f"{server.url}/v2", trust_env=False)
    assert page.status_code == 200
    assert found.failures == ()
    assert found.cases >= 100
    assert "<html" in found.html
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{server.url}/v2", trust_env=False)


def test_schemathesis_without_a_document_is_an_error_and_no_pass(home: Path) -> None:
    with pytest.raises(SevenfoldError, match="schemathesis could not run"):
        contract.fuzz("http://127.0.0.1:9/openapi.json", home)


def test_a_server_that_is_not_admitted_does_not_start(home: Path) -> None:
    command = [sys.executable, "-m", "sevenfold.serving.server", "--model", "tiny", "--candidate", "tiny-0"]
    with (
        pytest.raises(DidNotStart, match=r"the server did not start: .*tiny-0"),
        started(command, home),
    ):
        raise AssertionError("it must not get here")
