"""A mirror of the stack in a folder of its own: nobody else notices what is broken or planted in it.

Evidence, artefacts, logs and gateway are its own; data, models and keys are those that are there. Its parts
are the real ones: the candidate's serving code, Envoy, the activities of monitoring.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.activity import Activity
from sevenfold.cluster import Deployed, Endpoint
from sevenfold.cluster.local import PORTS, is_free
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import open_store
from sevenfold.gateway import Gateway
from sevenfold.gateway.envoy import soon
from sevenfold.release.traffic import Traffic
from sevenfold.serving.keys import GatewayKeys
from sevenfold.serving.pseudonyms import pseudonyms
from sevenfold.settings import Settings

if TYPE_CHECKING:
    from sevenfold.serving.app import ServingApp

START_S = 20.0
PLANTED = b'{"error":"planted"}'
FLUSH_MS = "50"
"""Envoy's own access log is written so often here: whoever counts it need not wait."""


class MirrorBroken(SevenfoldError):
    """A part of a mirror did not start."""

    retry = True


class Mirror:
    """The stack of one candidate, small, below `folder`."""

    def __init__(self, activity: Activity, folder: Path) -> None:
        self.real, self.folder = activity, folder
        self.candidate = activity.candidate
        self.settings = activity.settings.model_copy(
            update={
                "home": folder,
                "shared": folder,
                "logs": folder / "logs",
                "evidence_url": f"sqlite:///{folder}/evidence.db",
                "artifacts_url": f"file://{folder}/artifacts",
                "gateway_url": f"http://127.0.0.1:{free_port()}",
            }
        )
        self.store = open_store(self.settings.evidence_url, self.settings.secrets / "evidence")
        self.store.add_candidate(self.candidate)
        self.step("mirror", "staging", activity.promotion.as_of).artifacts.put(
            activity.model_file(self.candidate)
        )

    def step(self, name: str, environment: str, as_of: datetime, **params: Any) -> Activity:
        """The activity `name` of an environment, about the candidate, as if it were run in the mirror."""
        promotion = self.store.begin_promotion(
            self.candidate.model,
            environment,
            "mirror",
            self.candidate.id,
            as_of,
            "a mirror",
            params,
            self.real.name,
        )
        return Activity(name, promotion, self.store, self.settings)

    @property
    def token(self) -> str:
        """A key that opens its gateway."""
        return GatewayKeys(self.settings.secrets).standing()["admin"]

    def app(self, slot: str = "champion") -> ServingApp:
        """The candidate's server, in this process, its logs in the mirror."""
        from sevenfold.serving.server import application

        file = self.real.model_file(self.candidate)
        personal = partial(pseudonyms, self.real.spec, self.settings.secrets)
        return application(self.candidate.model, self.candidate.id, slot, file, self.settings.logs, personal)

    def local_gateway(self, *ports: int) -> Gateway:
        """Its gateway with replicas on these ports, whether or not its Envoy runs."""
        model, candidate = self.candidate.model, self.candidate.id
        return Gateway(self.settings, lambda: [_champion(model, candidate, ports)])

    @contextmanager
    def gateway(self, *ports: int) -> Iterator[Gateway]:
        """An Envoy of its own that gives the model's public route to replicas on these ports.

        When it is started again it serves the split that was committed last.

        Raises:
            MirrorBroken: it does not start.
        """
        model, candidate = self.candidate.model, self.candidate.id
        with own_gateway(self.settings, [_champion(model, candidate, ports)]) as gateway:
            if gateway.traffic(model) is None:
                gateway.apply(Traffic(model, candidate, generation=1))
            if not soon(lambda: any(gateway.envoy.healthy().values()), START_S):
                raise MirrorBroken(f"the mirror's gateway finds nobody at the ports {ports}")
            yield gateway


def _champion(model: str, candidate: str, ports: Sequence[int]) -> Deployed:
    return Deployed(model, candidate, "champion", tuple(map(Endpoint, ports)))


@contextmanager
def own_gateway(settings: Settings, deployed: Sequence[Deployed]) -> Iterator[Gateway]:
    """An Envoy at the settings' address, with files and logs in the settings' home, over what is deployed.

    Raises:
        MirrorBroken: it does not start.
    """
    gateway = Gateway(settings, lambda: deployed)
    command = list(gateway.program().command)
    command[command.index("--file-flush-interval-msec") + 1] = FLUSH_MS
    with _process(command, settings.home / "gateway.log", settings.home):
        if not soon(gateway.envoy.running, START_S):
            raise MirrorBroken(f"the mirror's gateway does not start at {settings.gateway_url}")
        yield gateway


@dataclass
class Fault:
    """What a server behind `faulty` does to every second request: wait, or fail."""

    delay_s: float = 0.0
    status: int = 200


def faulty(app: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    """The ASGI app with a fault that can be changed while it serves; the first request is spared."""
    count = 0

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal count
        if scope["method"] == "POST":
            count += 1
            if count % 2 == 0:
                await asyncio.sleep(fault.delay_s)
                if fault.status != 200:
                    length = [(b"content-length", str(len(PLANTED)).encode())]
                    await send({"type": "http.response.start", "status": fault.status, "headers": length})
                    await send({"type": "http.response.body", "body": PLANTED})
                    return
        await app(scope, receive, send)

    return answer


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[int]:
    """Serves an ASGI app on a free port of loopback, in a thread: the port, while it does.

    Raises:
        MirrorBroken: it does not start.
    """
    import uvicorn

    port = free_port()
    config = uvicorn.Config(
        app, port=port, loop="uvloop", ws="none", lifespan="off", log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        if not soon(lambda: server.started, START_S):
            raise MirrorBroken(f"the mirror's server does not start on port {port}")
        yield port
    finally:
        server.should_exit = True
        thread.join(START_S)


def post(
    app: Callable[..., Any], path: str, bodies: Sequence[bytes], headers: Mapping[str, str]
) -> list[int]:
    """Posts each body to the app itself, without a network between; returns the statuses."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def one(body: bytes) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return int(sent[0]["status"])

    async def everything() -> list[int]:
        return [await one(body) for body in bodies]

    return asyncio.run(everything())


def free_port() -> int:
    """A free port whose next one is free, too, below those that systems give to outgoing connections."""
    tried = random.sample(range(*PORTS, 2), 200)
    return next(port for port in tried if is_free(port) and is_free(port + 1))


@contextmanager
def _process(command: list[str], log: Path, folder: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=dict(os.environ)
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
