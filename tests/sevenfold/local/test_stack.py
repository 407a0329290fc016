"""The local stack: what it starts with, and what keeps it from starting, in one sentence."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from sevenfold.local import stack
from sevenfold.settings import Settings


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_the_state_folder_is_private_and_says_its_layout(here: Settings) -> None:
    stack.prepare(here)
    stack.prepare(here)
    assert here.home.stat().st_mode & 0o777 == 0o700
    assert (here.home / "layout").read_text() == stack.LAYOUT


def test_a_folder_of_another_version_is_left_alone(here: Settings) -> None:
    here.home.mkdir()
    (here.home / "layout").write_text("0")
    with pytest.raises(stack.CannotStart, match="has layout 0, this version needs 1: move it away"):
        stack.prepare(here)


def test_a_state_folder_that_is_a_file_is_said(here: Settings) -> None:
    here.home.write_text("")
    with pytest.raises(stack.CannotStart, match="cannot be used"):
        stack.prepare(here)


def test_a_full_disk_is_said_before_anything_starts(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100 << 20))
    with pytest.raises(stack.CannotStart, match="only 100 MiB are free"):
        stack.prepare(here)


@pytest.mark.parametrize("part", ["airflow", "mlflow", "gateway"])
def test_a_taken_port_names_who_wanted_it_and_what_to_do(tmp_path: Path, part: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        here = Settings(home=tmp_path, **{f"{part}_url": f"http://127.0.0.1:{port}"})
        with pytest.raises(stack.CannotStart, match=f"port {port}.*set SEVENFOLD_{part.upper()}_URL"):
            stack._require_free_port(here, part)


def test_the_gateways_second_port_has_to_be_free_too(tmp_path: Path) -> None:
    """Envoy would be started again and again, for it is never given up."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        here = Settings(home=tmp_path, gateway_url=f"http://127.0.0.1:{port - 1}")
        with pytest.raises(
            stack.CannotStart, match=f"port ({port}, where the gateway with its statistics|{port - 1}, )"
        ):
            stack._require_free_port(here, "gateway")


@pytest.mark.parametrize("part", ["airflow", "mlflow"])
@pytest.mark.parametrize(
    "url", ["http://0.0.0.0:15555", "https://models.example.org", "http://[::]:15555", "http:"]
)
def test_what_has_no_tls_listens_to_no_network(
    here: Settings, part: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "Supervisor", lambda home: pytest.fail("something was started"))
    open_to_all = here.model_copy(update={f"{part}_url": url})
    with pytest.raises(
        stack.CannotStart, match=f"{part} listens here without TLS.*SEVENFOLD_{part.upper()}_URL"
    ):
        stack.up(open_to_all, print)
    assert not here.home.exists()


def test_everything_listens_on_loopback_with_telemetry_off(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.settings.settings", lambda: here)
    monkeypatch.setattr("sevenfold.local.stack.local_gateway", lambda: SimpleNamespace(program=lambda: None))
    stack.prepare(here)
    programs = [program for program in stack.programs(here) if program is not None]
    assert {program.name for program in programs} == {"airflow", "mlflow", "reconciler", "watchman"}
    for program in programs:
        assert program.env["MLFLOW_DISABLE_TELEMETRY"] == program.env["DO_NOT_TRACK"] == "true"
        assert program.env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    [mlflow] = [program for program in programs if program.name == "mlflow"]
    assert mlflow.command[mlflow.command.index("--host") + 1] == "127.0.0.1"


def test_stopping_what_does_not_run_is_no_error(here: Settings) -> None:
    assert stack.down(here) is False
