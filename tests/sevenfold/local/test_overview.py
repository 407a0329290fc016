"""What `sevenfold status` says of a running stack."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.sevenfold.serving.local import ONE, TWO, Load, local
from typer.testing import CliRunner

from sevenfold.cli.main import app
from sevenfold.cluster import Deployment, Endpoint, Replica
from sevenfold.gateway import Traffic
from sevenfold.local import overview
from sevenfold.local.supervision import ProgramStatus
from sevenfold.settings import settings


def replica(candidate: str, slot: str, port: int, **more: object) -> Replica:
    said = {"state": "RUNNING", "pid": port, "ready": True, "since": 1000.0} | more
    return Replica("tiny", candidate, slot, Endpoint(port), **said)  # type: ignore[arg-type]


FOUND = [
    replica(TWO, "challenger", 3),
    replica(ONE, "champion", 2, ready=False, state="BACKOFF", pid=0, since=0.0),
    replica(ONE, "champion", 1),
    replica(TWO, "shadow", 4),
    replica(TWO, "staging-load", 5),
]


def test_each_replica_has_its_line() -> None:
    traffic = Traffic("tiny", ONE, TWO, share=0.25, mirror=0.5)
    assert overview.replicas(FOUND, traffic, {Endpoint(1): 3, Endpoint(3): 0}, 1090.0) == [
        (TWO, "challenger", "25%", "127.0.0.1:3", "ready", "1 min", "0"),
        (ONE, "champion", "75%", "127.0.0.1:1", "ready", "1 min", "3"),
        (ONE, "champion", "75%", "127.0.0.1:2", "backoff, not ready", "", ""),
        (TWO, "shadow", "sees 50%", "127.0.0.1:4", "ready", "1 min", ""),
        (TWO, "staging-load", "none", "127.0.0.1:5", "ready", "1 min", ""),
    ]
    assert {line[2] for line in overview.replicas(FOUND, None, {}, 1090.0)} == {"none"}


def test_parts_are_what_is_no_replica() -> None:
    log = Path("x")
    programs = [
        ProgramStatus("gateway", "RUNNING", 9, 1000.0, "", log),
        ProgramStatus("mlflow", "FATAL", 0, 0.0, "exited too quickly", log),
        ProgramStatus("tiny.champion.1", "RUNNING", 1, 1000.0, "", log),
    ]
    assert overview.parts(programs, FOUND, 1030.0) == [
        ("gateway", "running", "9", "30 s"),
        ("mlflow", "fatal", "", "exited too quickly"),
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600 * 3 + 1200, "3 h 20 min"), (3600 * 52, "2 d 4 h")],
)
def test_uptime(seconds: float, said: str) -> None:
    assert overview.uptime(seconds) == said


def test_status_shows_what_really_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local(tmp_path, "--think", "0.02") as running:
        monkeypatch.setenv("SEVENFOLD_HOME", str(running.settings.home))
        monkeypatch.setenv("SEVENFOLD_GATEWAY_URL", running.settings.gateway_url)
        models = tmp_path / "models" / "tiny"
        models.mkdir(parents=True)
        (models / "model.yaml").touch()
        monkeypatch.setenv("SEVENFOLD_MODELS", str(models.parent))
        settings.cache_clear()
        try:
            held = running.cluster.deploy(Deployment("tiny", ONE, "champion", 1))
            running.gateway.apply(Traffic("tiny", ONE, generation=1))
            with Load(running, callers=6):
                time.sleep(0.5)
                told = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["status"]).output
        finally:
            settings.cache_clear()
    assert re.search(r"gateway +running +\d+ +\d+ s", told), told
    assert re.search(
        rf"{ONE} +champion +100% +127.0.0.1:{held.endpoints[0].port} +ready +\d+ s +[1-9]", told
    ), told
    assert "tiny.champion" not in told
