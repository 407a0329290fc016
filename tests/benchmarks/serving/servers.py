"""The servers that are compared: the floor, ours, and peers in throw-away environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
from tests.benchmarks.serving import network

from sevenfold.cluster.local import is_free
from sevenfold.settings import REPOSITORY

HERE = Path(__file__).parent
INFER = "/v2/models/network/infer"
START_S = 90.0
UV = Path(sys.executable).with_name("uv")


class Unavailable(Exception):
    """A peer that could not be installed or does not answer; the message says why."""


@dataclass(frozen=True)
class Server:
    """How a server is started (`python`, folder, port) and asked."""

    name: str
    command: Callable[[Path, Path, int], list[str]]
    packages: tuple[str, ...] = ()
    prepare: Callable[[Path, Path], None] = lambda python, folder: None
    path: str = INFER
    as_mlflow: bool = False

    def body(self, rows: int) -> bytes:
        """The same rows for all: as the player sends them, or as MLflow's scoring server wants them."""
        request = orjson.loads(body(rows))
        if not self.as_mlflow:
            return body(rows)
        return orjson.dumps({"inputs": {tensor["name"]: tensor["data"] for tensor in request["inputs"]}})


def body(rows: int) -> bytes:
    """A request as the player sends it."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, len(network.NUMERIC))).astype(np.float32)
    texts = [["a", "b", "c", "d", "e"]] * rows
    inputs = [
        {"name": "numeric", "shape": list(numbers.shape), "datatype": "FP32", "data": numbers},
        {"name": "categorical", "shape": [rows, 5], "datatype": "BYTES", "data": texts},
    ]
    parameters = {"ids": [f"row-{row}" for row in range(rows)], "time": "2013-06-01T05:00:00+00:00"}
    return orjson.dumps({"inputs": inputs, "parameters": parameters}, option=orjson.OPT_SERIALIZE_NUMPY)


def _mlserver(python: Path, folder: Path) -> None:
    """Its settings; one process, as with all others."""
    quiet = {"parallel_workers": 0, "debug": False, "grpc_port": free(), "metrics_port": free()}
    (folder / "settings.json").write_text(json.dumps(quiet | {"host": "127.0.0.1"}))
    model = {"name": "network", "implementation": "mlserver_runtime.Network"}
    (folder / "model-settings.json").write_text(json.dumps(model))


def _mlflow(python: Path, folder: Path) -> None:
    model, code = str(folder / "model"), str(HERE / "peers" / "mlflow_model.py")
    saves = f"save_model({model!r}, python_model={code!r}, pip_requirements=['onnxruntime'])"
    command = [python, "-c", f"import mlflow; mlflow.pyfunc.{saves}"]
    done = subprocess.run(
        command, env=_environment(python, folder), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"the model could not be saved: {_last(done.stderr)}")


FLOOR = Server(
    "floor", lambda python, folder, port: [str(python), str(HERE / "floor.py"), _model(folder), str(port)]
)
OURS = Server(
    "ours",
    lambda python, folder, port: [
        *(str(python), str(HERE / "network.py"), "--model", "network", "--candidate", "network-1"),
        *("--port", str(port)),
    ],
)
PEERS = (
    Server(
        "MLServer",
        lambda python, folder, port: [
            *("env", f"MLSERVER_HTTP_PORT={port}", str(python.with_name("mlserver")), "start", str(folder)),
        ],
        ("mlserver>=1.7", "onnxruntime"),
        _mlserver,
    ),
    Server(
        "BentoML",
        lambda python, folder, port: [
            *(str(python.with_name("bentoml")), "serve", "bentoml_service:Network"),
            *("--host", "127.0.0.1", "--port", str(port), "--working-dir", str(HERE / "peers")),
        ],
        ("bentoml>=1.4", "onnxruntime"),
    ),
    Server(
        "LitServe",
        lambda python, folder, port: [str(python), str(HERE / "peers" / "litserve_server.py"), str(port)],
        ("litserve", "onnxruntime"),
    ),
    Server(
        "mlflow models serve",
        lambda python, folder, port: [
            *(str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(folder / "model")),
            *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        ],
        ("mlflow>=3", "onnxruntime", "pandas<3.1"),
        _mlflow,
        "/invocations",
        as_mlflow=True,
    ),
)


@contextmanager
def running(server: Server) -> Iterator[tuple[int, int]]:
    """Installs, starts and checks a server; yields its port and process, and leaves nothing behind.

    Raises:
        Unavailable: it cannot be installed, does not start, or does not answer as the others do.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder, port = Path(made), free()
        network.write(folder / "network-1.onnx")
        python = _installed(server, folder)
        server.prepare(python, folder)
        with (folder / "server.log").open("a") as log:
            command = server.command(python, folder, port)
            started = subprocess.Popen(
                command, env=_environment(python, folder), stdout=log, stderr=log, cwd=folder
            )
        try:
            _check(server, port, started, folder)
            yield port, started.pid
        finally:
            _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    """Ends the process and all of its children."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(started.pid).children(recursive=True):
            process.kill()
    started.kill()
    started.wait()


def _installed(server: Server, folder: Path) -> Path:
    if not server.packages:
        return Path(sys.executable)
    environment = folder / "environment"
    python = environment / "bin" / "python"
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, environment],
        [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *server.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"it cannot be installed: {_last(done.stderr)}")
    return python


def _check(server: Server, port: int, started: subprocess.Popen[bytes], folder: Path) -> None:
    """Waits for the first answer, and compares it with what the model says."""
    until, said = time.monotonic() + START_S, "nothing"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
        while time.monotonic() < until and started.poll() is None:
            try:
                answer = client.post(
                    server.path, content=server.body(3), headers={"content-type": "application/json"}
                )
                said = f"{answer.status_code} {answer.text[:200]}"
                if answer.is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        else:
            raise Unavailable(
                f"it does not answer ({said}); its log: {_last((folder / 'server.log').read_text())}"
            )
    wanted = _expected(folder)
    if not np.allclose(list(_numbers(answer.json())), wanted, atol=1e-5):
        raise Unavailable(f"it answers {said} and not {wanted}")


def _expected(folder: Path) -> list[float]:
    import onnxruntime

    sent = orjson.loads(body(3))["inputs"]
    codes = np.array([[1, 2, 3, 4, 5]] * 3, np.int64)
    feed = {"numeric": np.array(sent[0]["data"], np.float32), "categorical": codes}
    session = onnxruntime.InferenceSession(_model(folder), providers=["CPUExecutionProvider"])
    found: list[float] = session.run(["probability"], feed)[0].tolist()
    return found


def _numbers(said: Any) -> Iterator[float]:
    """The probabilities in an answer, wherever it has them."""
    if isinstance(said, float):
        yield said
    elif isinstance(said, dict | list):
        for one in said.values() if isinstance(said, dict) else said:
            yield from _numbers(one)


def _environment(python: Path, folder: Path) -> dict[str, str]:
    paths = f"{REPOSITORY / 'include'}:{REPOSITORY}:{HERE / 'peers'}"
    quiet = {"DO_NOT_TRACK": "true", "BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet |= {"ORT_DISABLE_TELEMETRY": "1"}
    ours = {"SEVENFOLD_HOME": str(folder), "PEER_MODEL": _model(folder), "OMP_NUM_THREADS": "1"}
    programs = f"{python.parent}:{os.environ['PATH']}"  # mlflow starts the uvicorn that it finds there
    return {**os.environ, **quiet, **ours, "PYTHONPATH": paths, "PATH": programs}


def _model(folder: Path) -> str:
    return str(folder / "network-1.onnx")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it says nothing"


_taken = iter(range(26_000, 29_000))


def free() -> int:
    """A free port that nobody else here gets."""
    return next(port for port in _taken if is_free(port))
