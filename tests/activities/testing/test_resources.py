"""What a replica costs is read off the real process: a server that burns CPU or memory is seen to do so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
import pytest
from tests.sevenfold.serving import tiny

from activities.testing import resources
from sevenfold.errors import SevenfoldError
from sevenfold.settings import REPOSITORY
from sevenfold.trials.lone_server import started

WASTEFUL = """
import sys
import time
from pathlib import Path
from tests.sevenfold.serving import tiny
from sevenfold.model.spec import Sla
from sevenfold.serving import model, server

kept = bytearray(300 * 2**20)
predict = model.ServedModel.predict

def slowly(self, *given):
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    return predict(self, *given)

model.ServedModel.predict = slowly
server.admitted_file = lambda *given: tiny.write(Path(__file__).with_suffix(".onnx"))
server.hidden = lambda model: lambda: None
server.promised = lambda model: Sla(rate=100, p99_ms=100, error_rate=0.001)
server.main(sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEVENFOLD_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "include")]))
    tiny.write(tmp_path / f"{tiny.CANDIDATE}.onnx")
    return tmp_path


def asked(command: list[str], folder: Path) -> tuple[resources.Burst, float, float]:
    body = orjson.dumps(tiny.request(2))
    with started(command, folder) as server:
        burst = resources.burst(server, f"/v2/models/{tiny.MODEL}/infer", [body], 2)
        return burst, server.resident_mib, server.start_cpu_seconds


def test_waste_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "LONGEST_S", 2.0)
    given = ["--model", tiny.MODEL, "--candidate", tiny.CANDIDATE, "--slot", "testing", "--drain", "0"]
    frugal, memory, start = asked([sys.executable, tiny.__file__, *given], home)
    (home / "wasteful.py").write_text(WASTEFUL)
    wasteful, more, longer = asked([sys.executable, str(home / "wasteful.py"), *given], home)
    assert 0 < frugal.cpu_ms < 10
    assert 18 < wasteful.cpu_ms < 40
    assert wasteful.latency(0.5)[0] > 18
    assert more > memory + 250
    assert longer > start
    value, low, high = frugal.latency(0.5)
    assert low <= value <= high


def test_a_server_that_refuses_real_rows_is_an_error(home: Path) -> None:
    command = [sys.executable, tiny.__file__, "--model", tiny.MODEL, "--candidate", tiny.CANDIDATE]
    with (
        started([*command, "--slot", "testing", "--drain", "0"], home) as server,
        pytest.raises(SevenfoldError, match="answers 2 real rows with 400"),
    ):
        resources.burst(server, f"/v2/models/{tiny.MODEL}/infer", [b"{}"], 2)
