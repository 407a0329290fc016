"""The controllers of Deployments: pods, as many as replicas, and the EndpointSlice of their Service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tests.mock_kubernetes.objects import DEPLOYMENTS, PODS, SERVICES, SLICES, Key, Object, Objects

READY: Mapping[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
LEAVES_S = 0.1
"""How long a pod drains."""


async def control(objects: Objects, namespace: str, name: str, status: Mapping[str, Any]) -> None:
    """Makes and ends pods of the Deployment of this name, if there is one; new ones get `status`."""
    key = DEPLOYMENTS, namespace, name
    if not objects.has(key):
        return
    held = objects.get(key)
    replicas = held["spec"].get("replicas", 1)
    staying = [one["metadata"]["name"] for one in _pods_of(objects, held) if not _is_leaving(one)]
    for _ in range(replicas - len(staying)):
        number = objects.changes()
        pod = f"{name}-{number}"
        made = {
            **_pod(held, pod),
            "status": {"podIP": f"10.0.{number // 250}.{number % 250}", **deepcopy(status)},
        }
        objects.put((PODS, namespace, pod), made)
    for pod in staying[replicas:]:
        objects.change((PODS, namespace, pod), {"metadata": {"deletionTimestamp": "now"}})
        objects.later(_leave(objects, (PODS, namespace, pod), key))
    _tell(objects, key)


async def _leave(objects: Objects, pod: Key, deployment: Key) -> None:
    await asyncio.sleep(LEAVES_S)
    if objects.has(pod):
        objects.remove(pod)
    _tell(objects, deployment)


def _tell(objects: Objects, key: Key) -> None:
    """What is true of a Deployment and its Service now."""
    if not objects.has(key):
        return
    _, namespace, name = key
    pods = _pods_of(objects, objects.get(key))
    staying = [one for one in pods if not _is_leaving(one)]
    ready = [one for one in staying if one["status"].get("conditions") == READY["conditions"]]
    status = {
        "observedGeneration": objects.get(key)["metadata"]["generation"],
        "replicas": len(staying),
        "updatedReplicas": len(staying),
        "availableReplicas": len(ready),
    }
    objects.change(key, {"status": status})
    service = SERVICES, namespace, name
    if not objects.has(service):
        return
    found = [
        {
            "addresses": [one["status"]["podIP"]],
            "conditions": {"ready": one in ready, "terminating": one not in staying},
        }
        for one in pods
    ]
    mine = objects.get(service)["metadata"]
    owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": mine["uid"]}
    about = {"name": f"{name}-x", "labels": mine["labels"], "ownerReferences": [owner]}
    slice_ = SLICES, namespace, f"{name}-x"
    if not objects.has(slice_) or objects.get(slice_)["endpoints"] != found:
        objects.put(slice_, {"metadata": about, "endpoints": found, "ports": [{"port": 8080}]})


def _pods_of(objects: Objects, held: Object) -> list[Object]:
    """All but those that were evicted: these are counted no more, and stay until their owner goes."""
    mine = held["metadata"]
    found = objects.there(PODS, mine["namespace"]).values()
    return [one for one in found if mine["uid"] in _owners(one) and one["status"].get("phase") != "Failed"]


def _owners(one: Object) -> list[str]:
    return [owner["uid"] for owner in one["metadata"].get("ownerReferences", [])]


def _is_leaving(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _pod(held: Object, name: str) -> Object:
    template, mine = deepcopy(held["spec"]["template"]), held["metadata"]
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": mine["name"], "uid": mine["uid"]}
    about = {**template["metadata"], "name": name, "ownerReferences": [owner]}
    return {"metadata": about, "spec": template["spec"]}
