"""Somebody who answers: well at one path, and anywhere else that it is not there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ssl import PROTOCOL_TLS_SERVER, SSLContext

from tests.sevenfold.certificates import Pair


@contextmanager
def answering(path: str, pair: Pair | None = None) -> Iterator[str]:
    """The URL of a server on loopback, with TLS if there is a `pair`."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == path else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        if pair is not None:
            context = SSLContext(PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"{'https' if pair else 'http'}://127.0.0.1:{server.server_port}"
        server.shutdown()
