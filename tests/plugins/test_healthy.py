"""The health check of Airflow's containers: whatever they run, one of two signs of life is enough."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from sevenfold_airflow import healthy


class ApiServer(BaseHTTPRequestHandler):
    """Answers with the status that its server was given."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def api_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ApiServer]]:
    with HTTPServer(("127.0.0.1", 0), ApiServer) as server:
        monkeypatch.setattr(healthy, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        Thread(target=server.serve_forever, daemon=True).start()
        yield ApiServer
        server.shutdown()


@pytest.mark.parametrize(("status", "job", "well"), [(200, 1, True), (503, 0, True), (503, 1, False)])
def test_an_api_server_or_a_job(
    api_server: type[ApiServer], monkeypatch: pytest.MonkeyPatch, status: int, job: int, well: bool
) -> None:
    monkeypatch.setattr(api_server, "status", status)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=job))
    assert healthy.healthy() is well


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthy, "ADDRESS", "http://127.0.0.1:9/")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    assert not healthy.healthy()
