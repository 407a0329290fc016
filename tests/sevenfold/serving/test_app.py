"""What a server answers, without a socket."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.wired import call

from sevenfold.serving import log, openapi, server
from sevenfold.serving.app import ServingApp
from sevenfold.serving.protocol import MAX_BODY, Signature

INFER = "/v2/models/tiny/infer"
FEEDBACK = "/v2/models/tiny/feedback"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def app(model_file: Path, tmp_path: Path) -> ServingApp:
    return server.application("tiny", tiny.CANDIDATE, "champion", model_file, tmp_path)


@pytest.mark.parametrize("rows", [1, 64])
def test_answers_are_the_model_s(app: ServingApp, rows: int) -> None:
    answer = call(app, "POST", INFER, json=tiny.request(rows, id="mine"))
    assert answer.status_code == 200
    assert answer.headers["x-candidate"] == tiny.CANDIDATE
    said = answer.json()
    assert (said["model_name"], said["model_version"], said["id"]) == ("tiny", tiny.CANDIDATE, "mine")
    assert said["outputs"][0]["data"] == pytest.approx(tiny.answers(rows), abs=1e-6)


def test_missing_numbers_and_unseen_categories_are_answered(app: ServingApp) -> None:
    request = tiny.request(1)
    request["inputs"][0]["data"] = [[None, None, None]]
    request["inputs"][1]["data"] = [["XXX", None]]
    assert call(app, "POST", INFER, json=request).json()["outputs"][0]["data"] == [0.5]


def test_each_answer_is_logged_with_what_the_gateway_said(app: ServingApp, tmp_path: Path) -> None:
    call(app, "POST", INFER, json=tiny.request(2), headers={"x-request-id": "r1", "x-arm": "shadow"})
    call(app, "POST", INFER, json=tiny.request(1))
    call(app, "POST", INFER, json={"inputs": []})
    table = log.predictions(tmp_path, "tiny")
    assert sorted(table["arm"].to_pylist()) == ["champion", "shadow", "shadow"]
    assert table["request"].to_pylist().count("r1") == 2
    assert sorted(table["prediction"].to_pylist()) == pytest.approx(
        sorted([*tiny.answers(1), *tiny.answers(2)]), abs=1e-6
    )


def test_a_log_that_cannot_be_written_does_not_stop_answers(
    app: ServingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app._predictions, "append", full)
    monkeypatch.setattr(app._feedback, "append", full)
    assert call(app, "POST", INFER, json=tiny.request(1)).status_code == 200
    label = {"id": "a", "label": 1, "known_at": "2013-06-01T00:00:00Z"}
    refused = call(app, "POST", FEEDBACK, json={"labels": [label]})
    assert refused.status_code == 503
    assert "send them again" in refused.json()["error"]
    assert 'sevenfold_log_lines_lost_total{candidate="tiny-0123456789ab"' in call(app, "GET", "/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/", 404, "there is nothing at /"),
        ("GET", "/v2/models/other", 404, "no model 'other', only tiny"),
        ("POST", "/v2/models/other/infer", 404, "no model 'other', only tiny"),
        ("POST", "/v2/models/tiny/versions/old/infer", 404, "there is nothing at"),
        ("GET", INFER, 405, "takes POST, not GET"),
        ("DELETE", "/v2/models/tiny", 405, "takes GET, not DELETE"),
    ],
)
def test_what_is_not_there(app: ServingApp, method: str, path: str, status: int, sentence: str) -> None:
    answer = call(app, method, path)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]
    assert (status == 405) == ("allow" in answer.headers)


def test_a_body_that_is_too_long_is_not_read(app: ServingApp) -> None:
    told = call(
        app, "POST", INFER, content=b"x" * (MAX_BODY + 1), headers={"content-type": "application/json"}
    )
    assert told.status_code == 413
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 100_000

    streamed = call(app, "POST", INFER, content=chunks(), headers={"content-type": "application/json"})
    assert streamed.status_code == 413
    assert sent < 15
    assert streamed.headers["connection"] == "close"


def test_other_content_types_are_refused(app: ServingApp) -> None:
    assert call(app, "POST", INFER, content=b"a=1", headers={"content-type": "text/plain"}).status_code == 415


def test_health_metadata_and_metrics(app: ServingApp) -> None:
    assert call(app, "GET", "/v2/health/live").json() == {"live": True}
    assert call(app, "GET", "/v2/health/ready").status_code == 200
    assert call(app, "GET", "/v2").json()["name"] == "sevenfold"
    metadata = call(app, "GET", "/v2/models/tiny").json()
    assert metadata["versions"] == [tiny.CANDIDATE]
    assert metadata["inputs"][0]["parameters"]["columns"] == list(tiny.NUMERIC)
    call(app, "POST", INFER, json=tiny.request(3))
    call(app, "POST", INFER, content=b"{")
    page = call(app, "GET", "/metrics").text
    labels = f'candidate="{tiny.CANDIDATE}"'
    assert f'sevenfold_rows_total{{{labels},model="tiny",slot="champion"}} 3.0' in page
    assert f'sevenfold_requests_total{{{labels},code="400",model="tiny",slot="champion"}} 1.0' in page


def test_draining_is_unready_and_answers(app: ServingApp) -> None:
    app.drain()
    assert call(app, "GET", "/v2/health/ready").status_code == 503
    assert call(app, "GET", "/v2/models/tiny/ready").status_code == 503
    assert call(app, "GET", "/v2/health/live").status_code == 200
    assert call(app, "POST", INFER, json=tiny.request(1)).status_code == 200


def test_numbers_that_the_model_cannot_compute_with_are_bad_input(app: ServingApp) -> None:
    request = tiny.request(1)
    request["inputs"][0]["data"] = [[3.4e38, 3.4e38, -3.4e38]]
    answer = call(app, "POST", INFER, json=request)
    assert answer.status_code in (200, 400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | st.text().map(str.encode), path=st.sampled_from([INFER, FEEDBACK]))
def test_garbage_is_never_a_server_error(app: ServingApp, body: bytes, path: str) -> None:
    answer = call(app, "POST", path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_defect_is_told_without_its_cause(
    app: ServingApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr(app._served, "predict", broken)
    answer = call(app, "POST", INFER, json=tiny.request(1))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret path" in capsys.readouterr().err


def test_the_server_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'mlflow', 'pandas', 'sklearn', 'scipy', 'pyarrow', 'onnx', 'airflow'}"
    code = f"import sys, sevenfold.serving.server; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(server.__file__).parents[2])},
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def asked(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], httpx.Response]:
    """Sends a generated case to a server."""
    app = server.application("tiny", tiny.CANDIDATE, "testing", model_file, tmp_path_factory.mktemp("logs"))

    def ask(case: Any) -> httpx.Response:
        if case.method == "GET":
            return call(app, case.method, case.formatted_path)
        sent = {"content": case.body} if isinstance(case.body, bytes) else {"json": case.body}
        return call(app, case.method, case.formatted_path, **sent)

    return ask


QUICK: dict[str, Any] = {
    "max_examples": 30,
    "deadline": None,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.parametrize("path", ["", "/infer", "/feedback", "/ready", f"/versions/{tiny.CANDIDATE}/infer"])
def test_the_openapi_document_is_true(path: str, asked: Callable[[Any], httpx.Response]) -> None:
    """What the schema allows gets a documented answer of the documented form, what it forbids is refused."""
    import schemathesis
    from schemathesis import GenerationMode

    document = openapi.document("tiny", tiny.CANDIDATE, Signature(tiny.NUMERIC, tiny.CATEGORICAL))
    schema = schemathesis.openapi.from_dict(document)
    method = "POST" if path.endswith(("infer", "feedback")) else "GET"
    operation = schema[f"/v2/models/tiny{path}"][method]
    answered = Counter[int]()

    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(**QUICK)
    def allowed(case: Any) -> None:
        answer = asked(case)
        answered[answer.status_code] += 1
        documented = operation.definition.raw["responses"][str(answer.status_code)]
        jsonschema.validate(answer.json(), documented["content"]["application/json"]["schema"])

    allowed()
    if method == "GET" or path == "/feedback":
        assert set(answered) == {200}
    if method == "POST":

        @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        @settings(**QUICK)
        def forbidden(case: Any) -> None:
            assert asked(case).status_code in (400, 413), case.body

        forbidden()
