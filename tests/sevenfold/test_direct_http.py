"""Who is asked without a proxy, and whose certificate is trusted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest
from tests.sevenfold.certificates import Pair, certificate

from sevenfold.direct_http import answers


class Busy(BaseHTTPRequestHandler):
    """Well at /well, busy elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(pair: Pair | None = None) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        if pair is not None:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"{'https' if pair else 'http'}://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_it_asks_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving() as url:
        assert answers(f"{url}/well", 5)
        assert not answers(f"{url}/busy", 5)
        assert answers(f"{url}/busy", 5, any_status=True)
    assert not answers(f"{url}/well", 5, any_status=True)


def test_it_trusts_whom_ssl_cert_file_names_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = certificate(tmp_path)
    with serving(pair) as url:
        assert not answers(f"{url}/well", 5)
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        assert answers(f"{url}/well", 5)
