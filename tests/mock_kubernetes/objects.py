"""What the API keeps: objects and their versions, who owns whom, lists and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import attrs
import kmock

Object = dict[str, Any]
Key = tuple[Any, str, str]
"""Resource, namespace and name."""

PODS, EVENTS, SERVICES = (kmock.resource(f"v1/{plural}") for plural in ("pods", "events", "services"))
JOBS = kmock.resource("batch/v1/jobs")
DEPLOYMENTS = kmock.resource("apps/v1/deployments")
AUTOSCALERS = kmock.resource("autoscaling/v2/horizontalpodautoscalers")
SLICES = kmock.resource("discovery.k8s.io/v1/endpointslices")
LOOKS_EVERY_S = 0.02
"""How often a watch, or whoever follows a log, looks whether something is new."""


@attrs.define(kw_only=True)
class Objects(kmock.KubernetesEmulator):
    """kmock's store of objects; added are versions that a watch can begin at, selectors and owners.

    `put`, `change` and `remove` may be called from any thread.
    """

    ended: bool = False
    _past: list[tuple[int, Any, Object]] = attrs.field(factory=list)
    _version: int = 100
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    def there(self, resource: Any, namespace: str | None = None) -> dict[str, Object]:
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

    def has(self, key: Key) -> bool:
        """Whether there is such an object now."""
        return key in self.objects and not self.objects[key].deleted

    def get(self, key: Key) -> Object:
        """An object that is there, or as it was last."""
        return dict(self.objects[key].last.raw)

    def put(self, key: Key, body: Object) -> Object:
        """Makes or replaces an object: then it keeps its identity, and its status unless `body` has one."""
        kind, status = "ADDED", Object()
        about = Object(uid=f"u{self._version}", creationTimestamp=now(), generation=1)
        if self.has(key):
            before = self.get(key)
            kind, status = "MODIFIED", {name: before[name] for name in ("status",) if name in before}
            about = {name: before["metadata"][name] for name in about}
            about["generation"] += 1
        about["namespace"] = key[1]
        self.objects[key] = {**status, **body, "metadata": {**body["metadata"], **about}}
        self._changed(key, kind)
        self._collect()
        return self.get(key)

    def change(self, key: Key, patch: Object) -> Object:
        """Changes single fields, by a merge patch; nothing happens to what is gone."""
        before = deepcopy(self.get(key))
        if self.has(key):
            self.objects[key].patch(patch)
        if self.get(key) != before:
            self.objects[key].raw["metadata"]["generation"] += "status" not in patch
            self._changed(key, "MODIFIED")
        return self.get(key)

    def remove(self, key: Key) -> None:
        """Deletes an object and what it owned."""
        self.objects[key].delete()
        self._version += 1
        self._past.append((self._version, key[0], {"type": "DELETED", "object": self.get(key)}))
        self._collect()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Goes on with `work` beside the request that is answered."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _changed(self, key: Key, kind: str) -> None:
        self._version += 1
        self.objects[key].raw["metadata"]["resourceVersion"] = str(self._version)
        self._past.append((self._version, key[0], {"type": kind, "object": deepcopy(self.get(key))}))

    def _collect(self) -> None:
        """The garbage collector: what has owners, and none of them is there, goes."""
        there = {key: one.raw["metadata"] for key, one in list(self.objects.items()) if not one.deleted}
        alive = {mine.get("uid") for mine in there.values()}
        for key, mine in there.items():
            owners = {owner["uid"] for owner in mine.get("ownerReferences", [])}
            if owners and not owners & alive and self.has(key):
                self.remove(key)

    async def _serve_list(self, request: kmock.Request) -> kmock.Payload:
        found = self.there(request.resource, request.namespace).values()
        items = [one for one in found if _wanted(one, request)]
        return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    async def _serve_watch(self, request: kmock.Request) -> AsyncIterator[kmock.Payload]:
        """All there is and then what comes; or what has come since the list of a version."""
        yield b""
        since, seen = request.params.get("resourceVersion"), len(self._past)
        if since:
            seen = sum(version <= int(since) for version, _, _ in self._past)
        else:
            for one in self.there(request.resource, request.namespace).values():
                if _wanted(one, request):
                    yield {"type": "ADDED", "object": one}
        loop = asyncio.get_running_loop()
        until = loop.time() + float(request.params.get("timeoutSeconds", 3600))
        while not self.ended and loop.time() < until:
            for _, resource, event in self._past[seen:]:
                seen += 1
                one = event["object"]
                here = resource == request.resource and one["metadata"]["namespace"] == request.namespace
                if here and _wanted(one, request):
                    yield event
            await asyncio.sleep(LOOKS_EVERY_S)


def now() -> str:
    """This moment, as the API writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _wanted(one: Object, request: kmock.Request) -> bool:
    """Whether the selectors of a request choose an object."""
    labels, fields = (unquote(request.params.get(f"{name}Selector", "")) for name in ("label", "field"))
    own = one["metadata"].get("labels") or {}
    return all(_label_holds(own, term) for term in labels.split(",") if term) and all(
        _field_holds(one, term) for term in fields.split(",") if term
    )


def _label_holds(own: Object, term: str) -> bool:
    if term.startswith("!"):
        return term[1:] not in own
    name, unequal, value = term.partition("!=")
    if unequal:
        return own.get(name) != value
    name, _, value = term.partition("=")
    return bool(own.get(name) == value)


def _field_holds(one: Any, term: str) -> bool:
    path, _, value = term.partition("=")
    for name in path.split("."):
        one = one.get(name) or {}
    return bool(one == value)
