"""How long a replica takes from the start of its process to ready, with a real store and real evidence."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.serving import network
from tests.benchmarks.serving.servers import free
from tests.sevenfold.evidence_world import MODEL, World, candidate
from tests.toy import MODEL_YAML

from sevenfold.cluster import Endpoint, ready
from sevenfold.environments import before
from sevenfold.evidence.artifacts import open_artifacts
from sevenfold.evidence.store import open_store
from sevenfold.settings import REPOSITORY, Settings

TIMES = 7
LIMIT_S = 60.0


def measure() -> list[float]:
    """Seconds of each start; the candidate has passed everything that a champion needs."""
    with tempfile.TemporaryDirectory() as made:
        settings = Settings(home=Path(made))
        digest = open_artifacts(settings.artifacts_url).put(network.write(Path(made) / "network.onnx"))
        world = World(open_store(settings.evidence_url, settings.secrets / "evidence"))
        proven = world.store.add_candidate(candidate("a").model_copy(update={"model_digest": digest}))
        for passed in before("production"):
            world.judged(proven, passed)
        spec = Path(made) / "models" / MODEL / "model.yaml"
        spec.parent.mkdir(parents=True)
        spec.write_text(MODEL_YAML.replace("name: toy", f"name: {MODEL}"))
        return [start(Path(made), proven.id) for _ in range(TIMES)]


def start(home: Path, candidate_id: str) -> float:
    """Seconds from the start of the process until it says that it is ready."""
    port = free()
    server = [sys.executable, "-m", "sevenfold.serving.server"]
    command = [*server, "--model", MODEL, "--candidate", candidate_id, "--port", str(port)]
    environment = {
        "SEVENFOLD_HOME": str(home),
        "SEVENFOLD_MODELS": str(home / "models"),
        "PYTHONPATH": str(REPOSITORY / "include"),
        "OMP_NUM_THREADS": "1",
    }
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not ready(Endpoint(port), candidate_id):
            seconds = time.perf_counter() - began
            if process.poll() is not None or seconds > LIMIT_S:
                raise SystemExit(f"the replica was not ready after {seconds:.0f} s")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
