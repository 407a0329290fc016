"""Ports of a pod on loopback, through the API server: no route to the cluster is needed, and no kubectl."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Any


class Forward:
    """One port of a pod at 127.0.0.1:`port`."""

    def __init__(self, core: Any, namespace: str, pod: str, target: int) -> None:
        self._core, self._namespace, self._pod, self._target = core, namespace, pod, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        from kubernetes.client import ApiClient, CoreV1Api
        from kubernetes.stream import portforward

        with caller, contextlib.suppress(OSError):
            # a client of its own: what forwards a port changes the client's way to ask while it does
            own = CoreV1Api(ApiClient(self._core.api_client.configuration))
            ask = own.connect_get_namespaced_pod_portforward
            way = portforward(ask, self._pod, self._namespace, ports=str(self._target))
            with contextlib.closing(way), contextlib.closing(way.socket(self._target)) as there:
                there.setblocking(True)
                _pump(caller, there)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Passes on what comes from either side until one of them closes."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source in readable:
            piece = source.recv(65536)
            if not piece:
                return
            (other if source is one else one).sendall(piece)
