"""A Kubernetes API server for tests: kmock's emulator, with what the operator relies on beyond objects.

It is a real HTTP server on loopback, so the blocking and the asynchronous client meet the same one. Objects
are kept, patched, listed and watched by kmock; added here are selectors, a scheduler, a kubelet and a Job
controller of a few lines, logs, the rights of Airflow's role, and faults that hit chosen requests.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import kmock
import yaml
from aiohttp import web

ROLE = (
    Path(__file__).parents[2] / "include" / "kubernetes" / "base" / "environments" / "every" / "launcher.yaml"
)
OBJECT = re.compile(r"/namespaces/[^/]+/(?P<kind>[a-z]+)(/(?P<name>[^/]+)(?P<part>/[a-z]+)?)?$")
PODS, JOBS, EVENTS = (kmock.resource(name) for name in ("v1/pods", "batch/v1/jobs", "v1/events"))


@dataclass
class Fault:
    """What happens to requests of `method` whose path and query match `path`, the first `times` of them.

    Args:
        status: the answer, with `message`, `reason` and `headers`; 0 breaks the connection off.
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


@dataclass
class Life:
    """What becomes of a pod.

    Args:
        phase: how far it gets of itself: "Running" stays there until `goes_on` is set.
        scheduled: whether a node is found, `why_not` says why not.
        waiting: reason and message of a container that does not start.
        pause: seconds after each of its lines.
        status: whether it ever gets one.
    """

    exit_code: int = 0
    reason: str = ""
    lines: tuple[str, ...] = ("working", "done")
    pause: float = 0.0
    scheduled: bool = True
    why_not: str = "0/1 nodes are available: 1 Insufficient memory."
    waiting: tuple[str, str] | None = None
    status: bool = True
    holds: bool = False
    goes_on: threading.Event = field(default_factory=threading.Event)


@attrs.define(kw_only=True)
class ApiServer(kmock.KubernetesEmulator):
    """The server; `lives` says what becomes of the pods, in the order of their creation (the last stays)."""

    lives: list[Life] = attrs.field(factory=lambda: [Life()])
    faults: list[Fault] = attrs.field(factory=list)
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    logs: dict[str, list[str]] = attrs.field(factory=dict)
    kubeconfig: Path = attrs.field(default=Path())
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)
    _made: int = 0

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods that are there, by name."""
        return self._there(PODS)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs that are there, by name."""
        return self._there(JOBS)

    def count(self, method: str, path: str) -> int:
        """How often it was asked."""
        return sum(asked == method and re.search(path, where) is not None for asked, where in self.asked)

    def remove(self, name: str, namespace: str = "sevenfold-training") -> None:
        """Somebody deletes a pod."""
        self.objects[PODS, namespace, name].delete()

    def age(self, name: str, namespace: str = "sevenfold-training") -> None:
        """Makes a pod years old; when its containers ended stays as it is."""
        self.objects[PODS, namespace, name].patch({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}})

    def warn(self, pod: str, reason: str, message: str, namespace: str = "sevenfold-training") -> None:
        """Something of the cluster warns of a pod."""
        event = {
            "metadata": {"name": f"{pod}.1", "namespace": namespace, "uid": "e1", "resourceVersion": "1"},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "involvedObject": {"name": pod, "fieldPath": "spec"},
        }
        self.objects[EVENTS, namespace, f"{pod}.1"] = event

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
        body = {"kind": "Status", "code": fault.status, "reason": fault.reason, "message": fault.message}
        return web.json_response(body, status=fault.status or 500, headers=fault.headers)

    async def _answer(self, raw: web.BaseRequest) -> web.StreamResponse:
        verb, resource = _asked(raw)
        if (verb, resource) not in _allowed():
            message = f"{resource} is forbidden: Airflow's role cannot {verb} it"
            return web.json_response({"code": 403, "reason": "Forbidden", "message": message}, status=403)
        if found := re.search(r"/namespaces/([^/]+)/pods/([^/]+)/log$", raw.path):
            return await self._send_log(raw, *found.groups())
        return await super().__call__(raw)

    async def _handle(self, request: kmock.Request) -> web.StreamResponse:
        if request.action == kmock.action.CREATE:
            if request.data["metadata"]["name"] in self._there(request.resource):
                return web.json_response({"reason": "AlreadyExists", "message": "already exists"}, status=409)
            self._complete(request)
        answer = await super()._handle(request)
        if request.action == kmock.action.CREATE and answer.status < 400:
            if request.resource == PODS:
                self._later(self._live(request.namespace, request.data["metadata"]["name"]))
            elif request.resource == JOBS:
                self._later(self._control(request.namespace, request.data["metadata"]["name"]))
        if request.action == kmock.action.DELETE and request.resource == JOBS:
            for name, pod in self.pods().items():
                if pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") == request.name:
                    self.objects[PODS, request.namespace, name].delete()
        return answer

    def _complete(self, request: Any) -> None:
        self._made += 1
        own = {"uid": f"u{self._made}", "creationTimestamp": _now(), "resourceVersion": str(self._made)}
        request.data["metadata"].update(own, namespace=request.namespace)
        request.data.setdefault("status", {"phase": "Pending"} if request.resource == PODS else {})

    async def _serve_list(self, request: kmock.Request) -> kmock.Payload:
        wanted = request.params.get("labelSelector", ""), request.params.get("fieldSelector", "")
        found = [
            one.raw
            for (resource, namespace, _), one in self.objects.items()
            if resource == request.resource and namespace == request.namespace and not one.deleted
        ]
        return {
            "metadata": {"resourceVersion": str(self._made)},
            "items": [one for one in found if _selected(one, *map(unquote, wanted))],
        }

    async def _live(self, namespace: str | None, name: str) -> None:
        """Scheduler and kubelet of one pod."""
        life = self.lives.pop(0) if len(self.lives) > 1 else self.lives[0]
        pod = self.objects[PODS, namespace, name]
        if not life.status:
            return
        node = {"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()}
        if not life.scheduled:
            node |= {"status": "False", "reason": "Unschedulable", "message": life.why_not}
        pod.patch({"status": {"phase": "Pending", "conditions": [node]}})
        if not life.scheduled:
            return
        await asyncio.sleep(0.05)
        if life.waiting:
            reason, message = life.waiting
            self._show(pod, {"waiting": {"reason": reason, "message": message}})
            return
        self.logs[name] = []
        self._show(pod, {"running": {"startedAt": _now()}}, "Running")
        for line in life.lines:
            self.logs[name].append(f"{_now()} {line}")
            await asyncio.sleep(life.pause)
        while life.holds and not life.goes_on.is_set():
            await asyncio.sleep(0.02)
        if pod.deleted:
            return
        ended = {
            "exitCode": life.exit_code,
            "reason": life.reason or ("Error" if life.exit_code else "Completed"),
            "message": "\n".join(life.lines) if life.exit_code else "",
            "finishedAt": _now(),
        }
        self._show(pod, {"terminated": ended}, "Failed" if life.exit_code else "Succeeded")

    async def _control(self, namespace: str | None, name: str) -> None:
        """The Job controller: as many pods as nodes, and the Job's end."""
        job = self.objects[JOBS, namespace, name]
        named = {"batch.kubernetes.io/job-name": name}
        template = job.raw["spec"]["template"]
        names = [f"{name}-{number}-x" for number in range(job.raw["spec"]["parallelism"])]
        for number, of in enumerate(names):
            labels = template["metadata"]["labels"] | named
            labels["batch.kubernetes.io/job-completion-index"] = str(number)
            made = {
                "metadata": {
                    "name": of,
                    "namespace": namespace,
                    "labels": labels,
                    "creationTimestamp": _now(),
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            }
            self.objects[PODS, namespace, of] = made
            self._later(self._live(namespace, of))
        while not job.deleted:
            await asyncio.sleep(0.02)
            phases = [pod["status"]["phase"] for of, pod in self.pods().items() if of in names]
            if "Failed" in phases:
                end = {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "message": "limit",
                }
            elif phases == ["Succeeded"] * len(names):
                end = {"type": "Complete", "status": "True"}
            else:
                continue
            job.patch({"status": {"conditions": [end]}})
            return

    def _show(self, pod: Any, state: dict[str, Any], phase: str = "Pending") -> None:
        if pod.deleted:
            return
        base = {
            "name": "base",
            "image": "x",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        pod.patch({"status": {"phase": phase, "containerStatuses": [base]}})

    async def _send_log(self, raw: web.BaseRequest, namespace: str, name: str) -> web.StreamResponse:
        """The lines, or those of the last seconds that are asked for, as a kubelet counts them."""
        if name not in self.pods():
            return web.json_response({"message": f"pods {name} not found", "code": 404}, status=404)
        answer = web.StreamResponse()
        await answer.prepare(raw)
        sent, seconds = 0, float(raw.query.get("sinceSeconds", "inf"))
        since = time.time() - seconds
        while True:
            for line in self.logs.get(name, [])[sent:]:
                if datetime.fromisoformat(line.partition(" ")[0]).timestamp() < since:
                    sent += 1
                    continue
                text = line if raw.query.get("timestamps", "").lower() == "true" else line.partition(" ")[2]
                await answer.write(f"{text}\n".encode())
                sent += 1
            running = self.pods().get(name, {"status": {"phase": ""}})["status"]["phase"] == "Running"
            if raw.query.get("follow", "").lower() != "true" or not running:
                return answer
            await asyncio.sleep(0.02)

    def _there(self, resource: Any) -> dict[str, dict[str, Any]]:
        found = list(self.objects.items())
        return {name: one.raw for (of, _, name), one in found if of == resource and not one.deleted}

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """A server in a thread of its own, with a kubeconfig for it in `folder`."""
    ready, stop = threading.Event(), threading.Event()
    made: list[ApiServer] = []

    async def serve() -> None:
        async with _serving(folder) as server:
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
async def _serving(folder: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer() as handler, kmock.Server(handler) as server:
        handler.kubeconfig = folder / "kubeconfig"
        handler.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(str(server.url))))
        yield handler
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


@cache
def _allowed() -> set[tuple[str, str]]:
    """Verb and resource of all that the role lets Airflow do where its pods are."""
    role = next(yaml.safe_load_all(ROLE.read_text()))
    return {(verb, kind) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}


def _asked(raw: web.BaseRequest) -> tuple[str, str]:
    """Verb and resource of a request, in the words of a role."""
    found = OBJECT.search(raw.path)
    assert found is not None, f"{raw.path} is nothing of a namespace"
    many = "watch" if raw.query.get("watch", "").lower() in ("true", "1") else "list"
    read = "get" if found["name"] else many
    verb = {"GET": read, "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[raw.method]
    return verb, found["kind"] + (found["part"] or "")


def _hits(fault: Fault, raw: web.BaseRequest) -> bool:
    return fault.times > 0 and fault.method == raw.method and re.search(fault.path, raw.path_qs) is not None


def _selected(one: dict[str, Any], labels: str, fields: str) -> bool:
    own = one["metadata"].get("labels") or {}
    return all(_label_holds(own, term) for term in labels.split(",") if term) and all(
        _field_holds(one, term) for term in fields.split(",") if term
    )


def _label_holds(own: dict[str, str], term: str) -> bool:
    if term.startswith("!"):
        return term[1:] not in own
    name, unequal, value = term.partition("!=")
    if unequal:
        return own.get(name) != value
    name, _, value = term.partition("=")
    return own.get(name) == value


def _field_holds(one: Any, term: str) -> bool:
    path, _, value = term.partition("=")
    for name in path.split("."):
        one = one.get(name) or {}
    return bool(one == value)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
