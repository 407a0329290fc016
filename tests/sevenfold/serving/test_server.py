"""A replica as a process: whom it serves, how fast it is there, how it goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from tests.sevenfold.evidence_world import MODEL, World, candidate
from tests.sevenfold.serving import tiny
from tests.sevenfold.serving.local import gateway_port, wait
from tests.toy import MODEL_YAML

from sevenfold.candidates.candidate import Candidate
from sevenfold.cluster import Endpoint, ready
from sevenfold.environments import before
from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import open_store
from sevenfold.model.spec import load_spec
from sevenfold.serving import log, server
from sevenfold.serving.model import BadModel
from sevenfold.settings import REPOSITORY, Settings

INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("models") / MODEL
    folder.mkdir()
    (folder / "model.yaml").write_text(MODEL_YAML.replace("name: toy", f"name: {MODEL}"))
    return Settings(home=tmp_path_factory.mktemp("home"), models=folder.parent)


@pytest.fixture(scope="module")
def unproven(settings: Settings) -> Candidate:
    """A candidate whose file is in the artifact store, without any evidence."""
    digest = open_artifacts(settings.artifacts_url).put(tiny.write(settings.home / "x.onnx"))
    return world(settings).store.add_candidate(candidate("a").model_copy(update={"model_digest": digest}))


@pytest.fixture(scope="module")
def proven(settings: Settings) -> Candidate:
    """A candidate that may be served in staging."""
    digest = open_artifacts(settings.artifacts_url).put(tiny.write(settings.home / "y.onnx", bias=1.0))
    made = world(settings).store.add_candidate(candidate("b").model_copy(update={"model_digest": digest}))
    for passed in before("staging"):
        world(settings).judged(made, passed)
    return made


def world(settings: Settings) -> World:
    return World(open_store(settings.evidence_url, settings.secrets / "evidence"))


def start(settings: Settings, made: Candidate, port: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sevenfold.serving.server", "--model", MODEL, "--candidate", made.id]
    environment = {
        "SEVENFOLD_HOME": str(settings.home),
        "SEVENFOLD_MODELS": str(settings.models),
        "PYTHONPATH": str(REPOSITORY / "include"),
    }
    return subprocess.Popen(
        [*command, "--port", str(port), *more], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def running(settings: Settings, proven: Candidate) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = gateway_port()
    process = start(settings, proven, port, "--slot", "staging", "--drain", "1")
    wait(lambda: ready(Endpoint(port), proven.id) or process.poll() is not None, 60)
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def refusal(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=60)
    assert process.returncode == NO_RETRY_HELPS
    assert said.count("\n") == 1
    return said


def test_without_evidence_nothing_is_served(settings: Settings, unproven: Candidate) -> None:
    said = refusal(start(settings, unproven, 1, "--slot", "testing"))
    assert f"{unproven.id} may not serve as testing: it has no valid passing statement of training" in said


def test_evidence_for_one_slot_is_none_for_a_later_one(settings: Settings, proven: Candidate) -> None:
    said = refusal(start(settings, proven, 1))
    assert "may not serve as champion: it has no valid passing statement of staging, preproduction" in said


def test_an_unknown_candidate_is_told(settings: Settings, proven: Candidate) -> None:
    unknown = proven.model_copy(update={"model_digest": "f" * 64})
    assert "candidate" in refusal(start(settings, unknown, 1))


def test_it_answers_and_goes_in_order(running: tuple[subprocess.Popen[str], str]) -> None:
    process, url = running
    with httpx.Client(base_url=url) as client:
        answer = client.post(INFER, json=tiny.request(2)).json()
        assert answer["outputs"][0]["data"] == pytest.approx(tiny.answers(2, bias=1.0), abs=1e-6)
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        wait(lambda: client.get("/v2/health/ready").status_code == 503)
        while time.monotonic() - told < 0.7:
            assert client.post(INFER, json=tiny.request(1)).status_code == 200
    assert process.wait(timeout=15) == 0
    assert time.monotonic() - told >= 1.0


def test_it_tells_prometheus_what_its_model_promises(
    running: tuple[subprocess.Popen[str], str], settings: Settings, proven: Candidate
) -> None:
    sla = load_spec(MODEL, settings.models).serving.sla
    of = f'{{candidate="{proven.id}",model="{MODEL}",slot="staging"}}'
    page = httpx.get(f"{running[1]}/metrics").text.splitlines()
    assert f"sevenfold_promised_error_rate{of} {sla.error_rate}" in page
    assert f"sevenfold_promised_p99_seconds{of} {sla.p99_ms / 1000}" in page


def test_an_answer_is_one_piece(running: tuple[subprocess.Popen[str], str]) -> None:
    """A head without its body cannot be retried by anybody."""
    _, url = running
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        for _ in range(50):
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(65536).endswith(b'{"ready":true}')


def test_what_was_answered_is_on_disk_when_it_is_killed(
    running: tuple[subprocess.Popen[str], str], settings: Settings
) -> None:
    process, url = running
    before = log.predictions(settings.logs, MODEL).num_rows
    with httpx.Client(base_url=url) as client:
        answered = sum(client.post(INFER, json=tiny.request(3)).status_code == 200 for _ in range(50))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert answered == 50
    assert log.predictions(settings.logs, MODEL).num_rows == before + 150


def test_a_pickle_is_refused_and_never_opened(settings: Settings) -> None:
    """Not even with every statement it could need: there is nothing here that would run what is in it."""
    trace = settings.home / "it-ran"

    file = settings.home / "model.pkl"
    file.write_bytes(f"cposix\nsystem\n(S'touch {trace}'\ntR.".encode())
    digest = open_artifacts(settings.artifacts_url).put(file)
    made = world(settings).store.add_candidate(candidate("c").model_copy(update={"model_digest": digest}))
    for passed in before("staging"):
        world(settings).judged(made, passed, run="pickle")
    assert "is not an ONNX model" in refusal(start(settings, made, 1, "--slot", "staging"))
    assert not trace.exists()
    subprocess.run([sys.executable, "-m", "pickle", file], check=True, capture_output=True)
    assert trace.exists(), "the trap is none"


def test_a_port_opens_only_after_the_first_answers(settings: Settings, proven: Candidate) -> None:
    """Whoever can connect is answered at once: nobody is the first whom the model answers."""
    port = gateway_port()
    process = start(settings, proven, port, "--slot", "staging", "--drain", "0")
    try:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            with suppress(httpx.ConnectError):
                answers.append(httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False))
            return bool(answers)

        wait(lambda: answered() or process.poll() is not None, 60)
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert (answers[0].status_code, answers[0].json()) == (200, {"ready": True})
    finally:
        process.kill()
        process.wait()


def test_a_model_that_cannot_answer_is_found_out_before_it_is_ready(tmp_path: Path) -> None:
    import onnx

    file = tiny.write(tmp_path / "one-row.onnx")
    model = onnx.load(file)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, file)
    with pytest.raises(BadModel, match="cannot answer 64 rows of zeros"):
        server.application("tiny", tiny.CANDIDATE, "testing", file, tmp_path)


def test_a_model_that_is_loaded_tells_nobody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry begins with a device id below the home folder."""
    file, home = tiny.write(tmp_path / "tiny.onnx"), tmp_path / "home"
    home.mkdir()
    code = "import sys, pathlib; from sevenfold.serving.model import ServedModel; "
    code += "ServedModel(pathlib.Path(sys.argv[1]))"
    environment = {"HOME": str(home), "PYTHONPATH": str(REPOSITORY / "include"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(file)], env=environment, check=True)
    assert list(home.iterdir()) == []


def test_a_taken_port_is_told_and_may_be_tried_again(settings: Settings, proven: Candidate) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = start(settings, proven, other.getsockname()[1], "--slot", "staging")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot listen on 127.0.0.1" in said


def test_an_altered_file_is_not_served(settings: Settings, proven: Candidate) -> None:
    file = open_artifacts(settings.artifacts_url).get(proven.model_digest)
    file.chmod(0o600)
    file.write_bytes(file.read_bytes() + b"x")
    assert "altered" in refusal(start(settings, proven, 1, "--slot", "staging"))
