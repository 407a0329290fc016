"""A Kubernetes API for tests of serving: kmock's emulator, and what serving relies on of a cluster.

Added are server-side apply, the scale subresource, selectors, owners, a controller of Deployments with pods
and EndpointSlices, and faults that hit chosen requests. It is a real HTTP server on loopback.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import kmock
import yaml
from aiohttp import web

DEPLOYMENTS, PODS = kmock.resource("apps/v1/deployments"), kmock.resource("v1/pods")
AUTOSCALERS = kmock.resource("autoscaling/v2/horizontalpodautoscalers")
SERVICES, SLICES = kmock.resource("v1/services"), kmock.resource("discovery.k8s.io/v1/endpointslices")
_PATH = re.compile(
    r"/apis?/(?P<group>.+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>\w+)(/(?P<name>[^/]+))?(/scale)?"
)
READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
LEAVES_S = 0.1
"""How long a pod drains."""


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose path matches: an error, or only a delay."""

    method: str
    path: str
    status: int | None = None
    times: int = 1
    seconds: float = 0.0


@attrs.define(kw_only=True)
class ClusterApi(kmock.KubernetesEmulator):
    """The server; `pod` is the status that pods get, None while they wait for a node that does not come."""

    pod: dict[str, Any] = attrs.field(factory=lambda: deepcopy(READY))
    faults: list[Fault] = attrs.field(factory=list)
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    url: str = attrs.field(default="")
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)
    _past: list[tuple[int, Any, dict[str, Any]]] = attrs.field(factory=list)
    _version: int = 100
    _pods: int = 0

    def there(self, resource: Any, namespace: str | None = None) -> dict[str, dict[str, Any]]:
        """The objects of a resource, by name."""
        return {
            name: one.raw
            for (of, where, name), one in list(self.objects.items())
            if of == resource and namespace in (None, where) and not one.deleted
        }

    def everything(self) -> list[tuple[str, str]]:
        """Resource and name of all objects but pods."""
        found = [(of.plural, name) for (of, _, name), one in self.objects.items() if not one.deleted]
        return sorted(one for one in found if one[0] != "pods")

    def changes(self) -> int:
        """How often any object was changed."""
        return self._version

    async def __call__(self, raw: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((raw.method, raw.path_qs))
        fault = next((one for one in self.faults if _hits(one, raw)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.seconds)
            if fault.status is not None:
                return _status(fault.status, "a fault")
        found = _PATH.fullmatch(raw.path)
        if found is None or raw.method == "GET":
            return await super().__call__(raw)
        body = json.loads(await raw.text() or "{}")
        name = found["name"] or body["metadata"]["name"]
        key = kmock.resource(f"{found['group']}/{found['plural']}"), found["namespace"], name
        if raw.method == "POST":
            return await self._replace(key, body, "")
        if raw.method == "PUT":
            return await self._replace(key, body, body["metadata"].get("resourceVersion"))
        if raw.method == "DELETE":
            return await self._delete(key, body)
        return await self._patch(key, body, create="apply-patch" in raw.headers["content-type"])

    async def _patch(self, key: Any, body: dict[str, Any], create: bool) -> web.StreamResponse:
        resource, namespace, name = key
        if not self._is(key):
            if not create:
                return _status(404, f"{resource.plural} {name} not found", resource.plural, name)
            about = {"uid": f"u-{name}-{self._version}", "namespace": namespace, "generation": 1}
            body = {**body, "metadata": {**body["metadata"], **about}}
            if resource == DEPLOYMENTS:
                body["spec"].setdefault("replicas", 1)
            self.objects[key] = body
            await self._changed(key)
        else:
            before = deepcopy(self.objects[key].raw)
            self.objects[key].patch(body)
            if self.objects[key].raw != before:
                self.objects[key].raw["metadata"]["generation"] += 1
                await self._changed(key)
        if resource in (DEPLOYMENTS, SERVICES):
            self._later(self._control(namespace, name))
        return web.json_response(self.objects[key].raw)

    async def _replace(self, key: Any, body: dict[str, Any], version: str | None) -> web.StreamResponse:
        """Creates (version "") or replaces an object, if it is of this version."""
        there = self.objects[key].raw["metadata"]["resourceVersion"] if self._is(key) else ""
        if there != version:
            return _status(409, f"it is of version {there or 'none'}")
        before = self.objects[key].raw["metadata"]["generation"] if there else 0
        self.objects[key] = {**body, "metadata": {**body["metadata"], "generation": before + 1}}
        await self._changed(key)
        return web.json_response(self.objects[key].raw)

    async def _delete(self, key: Any, body: dict[str, Any]) -> web.StreamResponse:
        if not self._is(key):
            return _status(404, f"{key[2]} not found", key[0].plural, key[2])
        mine = self.objects[key].raw["metadata"]
        wanted = body.get("preconditions", {}).get("resourceVersion", mine["resourceVersion"])
        if wanted != mine["resourceVersion"]:
            return _status(409, "the precondition failed")
        self.objects[key].delete()
        self._version += 1
        for other, one in list(self.objects.items()):
            owners = [] if one.deleted else one.raw["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == mine["uid"] for owner in owners):
                one.delete()
                await self._say(other[0], {"type": "DELETED", "object": one.last.raw})
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _control(self, namespace: str, name: str) -> None:
        """The controllers: as many pods as replicas, their EndpointSlice, and the Deployment's status."""
        key = DEPLOYMENTS, namespace, name
        if not self._is(key):
            return
        held = self.objects[key].raw
        mine = {
            pod: one
            for pod, one in self.there(PODS, namespace).items()
            if _owner(one) == held["metadata"]["uid"] and not _has_failed(one)
        }
        staying = [pod for pod, one in mine.items() if "deletionTimestamp" not in one["metadata"]]
        for _ in range(held["spec"]["replicas"] - len(staying)):
            self._pods += 1
            pod = (PODS, namespace, f"{name}-{self._pods}")
            self.objects[pod] = self._made(held, pod[2])
            await self._changed(pod)
        for pod_name in staying[held["spec"]["replicas"] :]:
            pod = (PODS, namespace, pod_name)
            self.objects[pod].patch({"metadata": {"deletionTimestamp": "now"}})
            self._later(self._leave(pod, name))
        await self._tell(namespace, name)

    async def _leave(self, pod: Any, name: str) -> None:
        await asyncio.sleep(LEAVES_S)
        self.objects[pod].delete()
        self._version += 1
        await self._tell(pod[1], name)

    async def _tell(self, namespace: str, name: str) -> None:
        if not self._is((DEPLOYMENTS, namespace, name)):
            return
        deployment = self.objects[DEPLOYMENTS, namespace, name]
        pods = [
            one
            for one in self.there(PODS, namespace).values()
            if _owner(one) == deployment.raw["metadata"]["uid"] and not _has_failed(one)
        ]
        staying = [one for one in pods if "deletionTimestamp" not in one["metadata"]]
        ready = [one for one in staying if one["status"].get("conditions") == READY["conditions"]]
        status = {
            "observedGeneration": deployment.raw["metadata"]["generation"],
            "replicas": len(staying),
            "updatedReplicas": len(staying),
            "availableReplicas": len(ready),
        }
        if deployment.raw.get("status") != status:
            deployment.patch({"status": status})
            await self._changed((DEPLOYMENTS, namespace, name))
        service = self.there(SERVICES, namespace).get(name)
        if service is not None:
            found = [
                {
                    "addresses": [one["status"]["podIP"]],
                    "conditions": {"ready": one in ready, "terminating": one not in staying},
                }
                for one in pods
            ]
            meta = {"name": f"{name}-x", "namespace": namespace, "labels": service["metadata"]["labels"]}
            meta["ownerReferences"] = service["metadata"]["ownerReferences"]
            slice_ = {"metadata": meta, "endpoints": found, "ports": [{"port": 8080}]}
            key = SLICES, namespace, f"{name}-x"
            if not self._is(key) or self.objects[key].raw["endpoints"] != found:
                self.objects[key] = slice_
                await self._changed(key)

    def _made(self, held: dict[str, Any], name: str) -> dict[str, Any]:
        template = deepcopy(held["spec"]["template"])
        mine = held["metadata"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": mine["name"], "uid": mine["uid"]}
        about = {"name": name, "namespace": held["metadata"]["namespace"], "ownerReferences": [owner]}
        status = {"podIP": f"10.0.0.{self._pods}", **deepcopy(self.pod)}
        return {"metadata": {**template["metadata"], **about}, "spec": template["spec"], "status": status}

    async def _changed(self, key: Any) -> None:
        self._version += 1
        self.objects[key].raw["metadata"]["resourceVersion"] = str(self._version)
        await self._say(key[0], {"type": "MODIFIED", "object": deepcopy(self.objects[key].raw)})

    async def _say(self, resource: Any, event: dict[str, Any]) -> None:
        self._past.append((self._version, resource, event))
        await self._buses[resource].put(event)

    async def _serve_list(self, request: kmock.Request) -> kmock.Payload:
        wanted = unquote(request.params.get("labelSelector", ""))
        found = self.there(request.resource, request.namespace).values()
        items = [one for one in found if _selected(one, wanted)]
        return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    async def _serve_watch(self, request: kmock.Request) -> AsyncIterator[kmock.Payload]:
        yield b""
        since = int(request.params.get("resourceVersion") or self._version)
        for version, resource, event in list(self._past):  # what came between the list and this watch
            if version > since and resource == request.resource and _is_in(event, request.namespace):
                yield event
        try:
            async with asyncio.timeout(float(request.params["timeoutSeconds"])):
                async for event in self._buses[request.resource]:
                    if _is_in(event, request.namespace):
                        yield event
        except TimeoutError:
            return

    def _is(self, key: Any) -> bool:
        return key in self.objects and not self.objects[key].deleted

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def cluster_api(folder: Path) -> Iterator[tuple[ClusterApi, Path]]:
    """A server in a thread of its own, and a kubeconfig for it in `folder`."""
    begun, stop, made = threading.Event(), threading.Event(), list[ClusterApi]()

    async def serve() -> None:
        async with ClusterApi() as handler, kmock.Server(handler) as server:
            handler.url = str(server.url).rstrip("/")
            made.append(handler)
            begun.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert begun.wait(20), "the API server did not start"
    kubeconfig = folder / "kubeconfig"
    here = {"name": "here"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{**here, "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{**here, "cluster": {"server": made[0].url}}],
        "users": [{**here, "user": {"token": "t"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content))
    try:
        yield made[0], kubeconfig
    finally:
        stop.set()
        thread.join(1)  # longer only while somebody watches


def _hits(fault: Fault, raw: web.BaseRequest) -> bool:
    return fault.times > 0 and fault.method == raw.method and re.search(fault.path, raw.path_qs) is not None


def _is_in(event: dict[str, Any], namespace: str | None) -> bool:
    return bool(event["object"]["metadata"]["namespace"] == namespace)


def _selected(one: dict[str, Any], wanted: str) -> bool:
    own = one["metadata"].get("labels") or {}
    return all(
        own.get(term.partition("=")[0]) == term.partition("=")[2] for term in wanted.split(",") if term
    )


def _owner(one: dict[str, Any]) -> str | None:
    return next((owner["uid"] for owner in one["metadata"].get("ownerReferences", [])), None)


def _has_failed(pod: dict[str, Any]) -> bool:
    """An evicted pod is counted no more and deleted by no controller: it stays until its owner goes."""
    return bool(pod["status"].get("phase") == "Failed")


def _status(code: int, message: str, kind: str = "", name: str = "") -> web.Response:
    details = {"kind": kind, "name": name}
    return web.json_response(
        {"kind": "Status", "code": code, "message": message, "details": details}, status=code
    )
