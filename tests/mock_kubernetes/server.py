"""The server: requests, what an account may do, and faults that hit chosen requests."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import kmock
import yaml
from aiohttp import web
from tests.mock_kubernetes import batch, deployments
from tests.mock_kubernetes.batch import Life
from tests.mock_kubernetes.objects import (
    DEPLOYMENTS,
    JOBS,
    LOOKS_EVERY_S,
    PODS,
    SERVICES,
    Key,
    Object,
    Objects,
)

_PATH = re.compile(
    r"/apis?/(?P<group>.+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>\w+)(/(?P<name>[^/]+))?(/(?P<part>\w+))?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


@dataclass
class Fault:
    """What happens to requests of `method` whose path and query match `path`, the first `times` of them.

    Args:
        status: the answer, with `message`, `reason` and `headers`; 0 breaks the connection off, without
            one it is only slow.
        after: the request is carried out, only its answer is lost.
        seconds: how long it takes, on top.
    """

    method: str
    path: str
    status: int | None = None
    times: int = 1
    message: str = "a fault"
    reason: str = "Fault"
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    seconds: float = 0.0


@attrs.define(kw_only=True)
class MockKubernetes(Objects):
    """The server.

    Args:
        lives: what becomes of pods that somebody makes, and of those of Jobs, in the order of their creation
            (the last stays).
        pod: the status that pods of Deployments get at once.
        asked: method and path of every request.
        rights: verb and resource of all that is allowed; without any, everything is.
    """

    lives: list[Life] = attrs.field(factory=lambda: [Life()])
    pod: Mapping[str, Any] = attrs.field(factory=lambda: deepcopy(deployments.READY))
    faults: list[Fault] = attrs.field(factory=list)
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    rights: set[tuple[str, str]] = attrs.field(factory=set)
    kubeconfig: Path = attrs.field(default=Path())
    _logs: dict[str, list[str]] = attrs.field(factory=lambda: defaultdict(list))

    def count(self, method: str, path: str) -> int:
        """How often it was asked."""
        return sum(asked == method and re.search(path, where) is not None for asked, where in self.asked)

    async def __call__(self, raw: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((raw.method, raw.path_qs))
        fault = next((one for one in self.faults if _hits(one, raw)), None)
        if fault is None:
            return await self._answer(raw)
        fault.times -= 1
        await asyncio.sleep(fault.seconds)
        if fault.status is None:
            return await self._answer(raw)
        if fault.after:
            await self._answer(raw)
        if fault.status == 0:
            assert raw.transport is not None
            raw.transport.close()
        return _refused(fault.status or 500, fault.message, fault.reason, headers=fault.headers)

    async def _answer(self, raw: web.BaseRequest) -> web.StreamResponse:
        found = _PATH.fullmatch(raw.path)
        if found is None:
            return await super().__call__(raw)
        right = _right(raw, found)
        if self.rights and right not in self.rights:
            return _refused(403, f"{right[1]} is forbidden: the role cannot {right[0]} it", "Forbidden")
        if found["part"] == "log":
            return await self._send_log(raw, found["namespace"], found["name"])
        if raw.method == "GET":
            return await super().__call__(raw)
        body = json.loads(await raw.text() or "{}")
        name = found["name"] or body["metadata"]["name"]
        key = kmock.resource(f"{found['group']}/{found['plural']}"), found["namespace"], name
        if raw.method == "DELETE":
            return self._delete(key, body.get("preconditions") or {})
        if raw.method == "POST":
            return self._create(key, body)
        if raw.method == "PUT":
            return self._replace(key, body)
        return self._patch(key, body, may_create="apply-patch" in raw.headers["content-type"])

    def _create(self, key: Key, body: Object) -> web.Response:
        if self.has(key):
            return _refused(409, f"{key[2]} already exists", "AlreadyExists", key)
        self.put(key, {"status": {}, **body})
        self._control(key)
        if key[0] == PODS:
            self._begin(key)
        elif key[0] == JOBS and self.lives[0].queues:
            self.change(key, {"spec": {"suspend": True}})
        elif key[0] == JOBS:
            self.later(batch.control(self, key, self._begin))
        return web.json_response(self.get(key), status=201)

    def _replace(self, key: Key, body: Object) -> web.Response:
        if not self.has(key):
            return _not_found(key)
        if body["metadata"].get("resourceVersion") != self.get(key)["metadata"]["resourceVersion"]:
            return _refused(409, f"{key[2]} has been modified", "Conflict", key)
        self.put(key, body)
        self._control(key)
        return web.json_response(self.get(key))

    def _patch(self, key: Key, body: Object, may_create: bool) -> web.Response:
        if self.has(key):
            self.change(key, body)
        elif may_create:
            self.put(key, body)
        else:
            return _not_found(key)
        self._control(key)
        return web.json_response(self.get(key))

    def _delete(self, key: Key, preconditions: Object) -> web.Response:
        if not self.has(key):
            return _not_found(key)
        mine = self.get(key)["metadata"]
        if any(mine[name] != wanted for name, wanted in preconditions.items()):
            return _refused(409, f"the precondition of {key[2]} failed", "Conflict", key)
        self.remove(key)
        return web.json_response(self.get(key) if key[0] == PODS else {"kind": "Status", "status": "Success"})

    def _control(self, key: Key) -> None:
        if key[0] in (DEPLOYMENTS, SERVICES):
            self.later(deployments.control(self, *key[1:], self.pod))

    def _begin(self, pod: Key) -> None:
        life = self.lives.pop(0) if len(self.lives) > 1 else self.lives[0]
        self._logs[pod[2]] = []
        self.change(pod, {"status": {"phase": "Pending"}})
        self.later(batch.live(self, pod, life, self._logs[pod[2]]))

    async def _send_log(self, raw: web.BaseRequest, namespace: str, name: str) -> web.StreamResponse:
        """The lines, or those of the last seconds that are asked for, as a kubelet counts them."""
        key = PODS, namespace, name
        if not self.has(key):
            return _not_found(key)
        with_time, follow = (raw.query.get(one, "").lower() == "true" for one in ("timestamps", "follow"))
        since = time.time() - float(raw.query.get("sinceSeconds", "inf"))
        answer = web.StreamResponse()
        await answer.prepare(raw)
        sent = 0
        while True:
            runs = self.has(key) and self.get(key)["status"]["phase"] == "Running"
            for line in self._logs[name][sent:]:
                sent += 1
                at, _, text = line.partition(" ")
                if datetime.fromisoformat(at).timestamp() >= since:
                    await answer.write(f"{line if with_time else text}\n".encode())
            if not (follow and runs) or self.ended:
                return answer
            await asyncio.sleep(LOOKS_EVERY_S)


@contextmanager
def mock_kubernetes(folder: Path, role: Path | None = None) -> Iterator[MockKubernetes]:
    """A server in a thread of its own, with a kubeconfig for it in `folder`.

    Args:
        role: the manifest of all that its caller may do; by default everything.
    """
    ready, stop = threading.Event(), threading.Event()
    made: list[MockKubernetes] = []

    async def serve() -> None:
        async with _serving(folder, role) as server:
            made.append(server)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(20), "the API server did not start"
    try:
        yield made[0]
    finally:
        stop.set()
        thread.join(20)


@asynccontextmanager
async def _serving(folder: Path, role: Path | None) -> AsyncIterator[MockKubernetes]:
    rights = _rights(role) if role else set[tuple[str, str]]()
    kubeconfig = folder / "kubeconfig"
    async with (
        MockKubernetes(rights=rights, kubeconfig=kubeconfig) as handler,
        kmock.Server(handler) as server,
    ):
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(str(server.url))))
        yield handler
        handler.ended = True
        for task in list(handler._tasks):
            task.cancel()


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": url.rstrip("/")}}],
        "users": [{"name": "here", "user": {"token": "t"}}],
    }


def _rights(role: Path) -> set[tuple[str, str]]:
    """Verb and resource of all that the first role of a manifest allows."""
    rules = next(yaml.safe_load_all(role.read_text()))["rules"]
    return {(verb, kind) for rule in rules for kind in rule["resources"] for verb in rule["verbs"]}


def _right(raw: web.BaseRequest, found: re.Match[str]) -> tuple[str, str]:
    """Verb and resource of a request, in the words of a role."""
    many = "watch" if raw.query.get("watch", "").lower() in ("true", "1") else "list"
    verb = _VERBS.get(raw.method, "get" if found["name"] else many)
    return verb, "/".join(filter(None, (found["plural"], found["part"])))


def _hits(fault: Fault, raw: web.BaseRequest) -> bool:
    return fault.times > 0 and fault.method == raw.method and re.search(fault.path, raw.path_qs) is not None


def _not_found(key: Key) -> web.Response:
    return _refused(404, f"{key[0].plural} {key[2]} not found", "NotFound", key)


def _refused(
    code: int, message: str, reason: str, key: Key | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    details = {"kind": key[0].plural, "name": key[2]} if key else {}
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return web.json_response(body, status=code, headers=headers)
