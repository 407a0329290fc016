"""The cluster as Kubernetes has it: a candidate in a slot is a Deployment, its Service, its disruption budget
and, where model.yaml says how replicas follow the load, its autoscaler.

Nothing is remembered here: what is deployed stands in the cluster, by its labels. The Deployment owns the
other three, so whoever is killed half-way leaves nothing behind that the next call does not find.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sevenfold.cluster import (
    Cluster,
    Deployed,
    Deployment,
    DeploymentFailed,
    Endpoint,
    NotDeployed,
    Replica,
    manifests,
    the_one,
)
from sevenfold.cluster.manifests import (
    CANDIDATE,
    COMPONENT,
    MODEL,
    PART_OF,
    REPLICAS,
    SLOT,
    environment,
    purpose,
)
from sevenfold.errors import NO_RETRY_HELPS, SevenfoldError
from sevenfold.gateway.httproute import PORT, service
from sevenfold.kubernetes.api import Changed, KubernetesApi, Object
from sevenfold.kubernetes.images import references
from sevenfold.kubernetes.pod_end import why_it_ended
from sevenfold.model.spec import load_spec
from sevenfold.release.autoscaling import Scale, scale_of
from sevenfold.serving.admission import LIVE, Evidence, arm, require_admission
from sevenfold.settings import Settings

SERVING = ("staging", "preproduction", "production")
PARTS = ("gateway", "reconciler", "watchman")
"""Components that are kept running beside replicas."""
READY_LIMIT_S = 300.0
"""A node may have to be added, and an image to be pulled."""
GONE_LIMIT_S = 60.0
POLL_S = 0.5
CRASHES = 3
"""After so many a replica is not waited for."""
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""What no waiting mends,"""
NOT_READ_YET = "failed to sync"
"""except where a busy kubelet has not read a Secret or ConfigMap that is there: it tries again."""


@dataclass(frozen=True)
class Part:
    """A pod that is kept running and is no replica; `since` in seconds since 1970, 0 before it starts."""

    name: str
    state: str
    ready: bool
    node: str
    since: float


class NoServerImage(SevenfoldError):
    """Nobody has said which image replicas run."""


class StillThere(SevenfoldError):
    """Pods that do not end."""

    retry = True


class KubernetesCluster(Cluster):
    """Deploys, scales and removes replicas in the namespaces of their environments."""

    def __init__(
        self,
        settings: Settings,
        api: KubernetesApi,
        evidence: Callable[[], Evidence],
        publish: Callable[[Deployed], None] = lambda deployed: None,
    ) -> None:
        """
        Args:
            settings: namespaces, the image of replicas and what else differs between clusters.
            api: the Kubernetes API.
            evidence: opens what admission asks.
            publish: called when replicas have become ready; returns when the gateway knows them.
        """
        self._settings, self._api = settings, api
        self._evidence, self._publish = evidence, publish

    def deploy(self, deployment: Deployment, limit: float | None = None) -> Deployed:
        """See Cluster: within `READY_LIMIT_S` by default. Replicas that an HPA has added stay."""
        require_admission(self._evidence(), deployment.candidate, deployment.slot)
        image = self._server_image()
        there = self._of(deployment)
        if there is not None:  # as what it came is part of its pods: another name for it restarts none
            deployment = Deployment(
                *(deployment.model, deployment.candidate),
                *(there["metadata"]["labels"][SLOT], deployment.replicas),
            )
        held = self._fit(self._applied(deployment, image), deployment.replicas, limit, new=there is None)
        if arm(deployment.slot) not in LIVE:
            for other in self.deployments(deployment.model, deployment.slot):
                if other.candidate != deployment.candidate:
                    self.remove(other.model, other.slot, other.candidate)
        return held

    def scale(self, model: str, slot: str, replicas: int, candidate: str | None = None) -> Deployed:
        """See Cluster. An HPA brings the number back between its bounds."""
        held = the_one(self, model, slot, candidate)
        there = self._of(Deployment(held.model, held.candidate, held.slot))
        if there is None:
            raise NotDeployed(f"{held.candidate} as {held.slot} was just removed: somebody else has ended it")
        return self._fit(there, max(1, replicas), None, new=False, fewer=True)

    def remove(self, model: str, slot: str, candidate: str | None = None) -> None:
        """See Cluster: scaled to zero, which drains them while their Service still says so, then deleted.

        Raises:
            StillThere: pods have not ended by themselves nor been ended.
        """
        for one in self._found(model, slot):
            if candidate in (None, one["metadata"]["labels"][CANDIDATE]):
                self._scale(one, 0)
                self._await_gone(one)
                self._delete_at_zero(one)

    def running(self) -> bool:
        """Always: what is deployed is started by the cluster."""
        return True

    def deployments(self, model: str | None = None, slot: str | None = None) -> list[Deployed]:
        """What is deployed; all of them only for whoever may look into every environment that serves."""
        return [
            found
            for namespace in self._namespaces(slot)
            for found in self._deployed(namespace, self._found(model, slot, namespace))
        ]

    def ready(self, deployed: Deployed) -> bool:
        """Whether at least one takes requests: the cluster asks them all the time."""
        return bool(deployed.endpoints)

    def status(self) -> list[Replica]:
        """Every pod, with what the cluster says of it."""
        return [
            _replica(pod)
            for namespace in self._namespaces(None)
            for pod in self._api.list(f"/api/v1/namespaces/{namespace}/pods", REPLICAS)["items"]
        ]

    def parts(self) -> list[Part]:
        """The pods of what serves and watches beside replicas: gateways, reconciler, watchman."""
        return [
            Part(
                pod["metadata"]["name"],
                *_state(pod),
                (pod.get("spec") or {}).get("nodeName", ""),
                _since(pod),
            )
            for environment in (*SERVING, "monitoring")
            for pod in self._api.list(
                f"/api/v1/namespaces/{self._settings.namespace_of(environment)}/pods",
                {PART_OF: REPLICAS[PART_OF]},
            )["items"]
            if pod["metadata"]["labels"].get(COMPONENT) in PARTS
        ]

    def given_up(self, deployed: Deployed) -> bool:
        """Never: Kubernetes starts again what has failed, as often as it takes."""
        return False

    def _server_image(self) -> str:
        found = references(self._settings).get("server")
        if not found:
            raise NoServerImage(
                f"nobody has said which image replicas run: neither SEVENFOLD_IMAGES nor "
                f"{self._settings.images_file} has 'server' (`make images` writes it)"
            )
        return found

    def _applied(self, wanted: Deployment, image: str) -> Object:
        """The Deployment and what belongs to it, as they should be; only what differs is changed."""
        here, spec = self._settings, load_spec(wanted.model, self._settings.models)
        namespace = here.namespace_of(environment(wanted.slot))
        name = service(wanted.candidate, purpose(wanted.slot))
        made = manifests.deployment(name, namespace, wanted, image, spec.serving.resources, here)
        owner = self._api.apply(_path(made), made)
        for one in (manifests.service(owner), manifests.disruption_budget(owner)):
            self._api.apply(_path(one), one)
        if wanted.slot in LIVE:
            self._let_follow_the_load(owner, scale_of(wanted.model))
        return owner

    def _let_follow_the_load(self, owner: Object, scale: Scale | None) -> None:
        """By an autoscaler, if the model says how; one that it does not want any more goes."""
        made = manifests.autoscaler(owner, scale or Scale(1, 1, 1.0), self._settings.custom_metrics)
        if scale is None:
            self._api.delete(_path(made))
        else:
            self._api.apply(_path(made), made)

    def _fit(
        self, held: Object, replicas: int, limit: float | None, *, new: bool, fewer: bool = False
    ) -> Deployed:
        """Brings a Deployment to its number of ready replicas.

        Takes back what it began where that fails: a new one is removed, another keeps the number it had.
        """
        before = 0 if new else int(held["spec"].get("replicas", 1))
        scales_itself = held["metadata"]["labels"][SLOT] in LIVE and not fewer
        number = max(replicas, before) if scales_itself else replicas
        self._scale(held, number)
        try:
            deployed = self._await_ready(held, number, READY_LIMIT_S if limit is None else limit)
        except DeploymentFailed:
            if before:
                self._scale(held, before)
            else:
                self._api.delete(_path(held))
            raise
        self._publish(deployed)
        return deployed

    def _scale(self, held: Object, replicas: int) -> None:
        self._api.patch(f"{_path(held)}/scale", {"spec": {"replicas": replicas}})

    def _await_ready(self, held: Object, replicas: int, limit: float) -> Deployed:
        """Waits until so many replicas of the newest kind take requests, or fewer if an autoscaler says so.

        Raises:
            DeploymentFailed: they do not, with the cause as far as the cluster knows it.
        """
        name, mine = held["metadata"]["name"], held["metadata"]["labels"]
        until = time.monotonic() + limit
        while True:
            now = self._api.get(_path(held))
            if now is None:
                raise DeploymentFailed(f"{name} was removed while it started: somebody else has ended it")
            (deployed,) = self._deployed(held["metadata"]["namespace"], [now])
            wanted = max(1, min(replicas, now["spec"]["replicas"]))
            if _rolled_out(now, wanted) and len(deployed.endpoints) >= wanted:
                return deployed
            image = _image(now["spec"]["template"]["spec"])
            pods = [pod for pod in self._pods(now) if _image(pod["spec"]) == image]
            going = [pod for pod in pods if not _has_ended(pod)]
            why = _hopeless(going)
            if why is None and time.monotonic() > until:
                ready = len(deployed.endpoints)
                why = (
                    _trouble(going or pods)
                    or _rejected(now)
                    or f"{ready} of {replicas} are ready in {limit:.0f} s"
                )
            if why is not None:
                raise DeploymentFailed(f"{mine[CANDIDATE]} as {mine[SLOT]} is not ready: {why}")
            time.sleep(POLL_S)

    def _delete_at_zero(self, held: Object) -> None:
        """Deletes what nobody has deployed again meanwhile."""
        now = self._api.get(_path(held))
        if now is not None and now["spec"]["replicas"] == 0:
            with suppress(Changed):
                self._api.delete(_path(held), now["metadata"]["resourceVersion"])

    def _await_gone(self, held: Object) -> None:
        until = time.monotonic() + GONE_LIMIT_S
        while left := [pod for pod in self._pods(held) if not _has_ended(pod)]:
            if time.monotonic() > until:
                names = ", ".join(pod["metadata"]["name"] for pod in left)
                raise StillThere(f"{names} of {held['metadata']['name']} did not end in {GONE_LIMIT_S:.0f} s")
            time.sleep(POLL_S)

    def _of(self, wanted: Deployment) -> Object | None:
        """The Deployment of a candidate for the purpose of a slot, if there is one."""
        namespace = self._settings.namespace_of(environment(wanted.slot))
        name = service(wanted.candidate, purpose(wanted.slot))
        return self._api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")

    def _found(
        self, model: str | None = None, slot: str | None = None, namespace: str | None = None
    ) -> list[Object]:
        namespaces = [namespace] if namespace else self._namespaces(slot)
        wanted = {**REPLICAS, **({MODEL: model} if model else {}), **({SLOT: slot} if slot else {})}
        paths = (f"/apis/apps/v1/namespaces/{one}/deployments" for one in namespaces)
        lists = (self._api.list(path, wanted) for path in paths)
        kind = {"apiVersion": "apps/v1", "kind": "Deployment"}  # an item of a list does not say it
        return [{**kind, **one} for found in lists for one in found["items"]]

    def _deployed(self, namespace: str, found: Iterable[Object]) -> list[Deployed]:
        """Each with the endpoints of its Service."""
        found = list(found)
        if not found:
            return []
        answering = {(one.candidate, purpose(one.slot)): one for one in endpoints(self._api, namespace)}
        deployed = []
        for one in found:
            mine = one["metadata"]["labels"]
            there = answering.get((mine[CANDIDATE], purpose(mine[SLOT])))
            where = (there.endpoints, there.leaving, there.last_resort) if there else ((),)
            deployed.append(Deployed(mine[MODEL], mine[CANDIDATE], mine[SLOT], *where))
        return deployed

    def _pods(self, held: Object) -> list[Object]:
        namespace = held["metadata"]["namespace"]
        wanted = held["spec"]["selector"]["matchLabels"]
        found: list[Object] = self._api.list(f"/api/v1/namespaces/{namespace}/pods", wanted)["items"]
        return found

    def _namespaces(self, slot: str | None) -> list[str]:
        environments = [environment(slot)] if slot else SERVING
        return [self._settings.namespace_of(one) for one in environments]


def kubernetes_cluster(settings: Settings, *, hurry: bool = False) -> KubernetesCluster:
    """The cluster of these settings; a deployment is ready when the gateways know it (see open_gateway)."""
    from sevenfold.evidence.store import open_store
    from sevenfold.gateway.remote import RemoteGateway

    api = KubernetesApi(settings)

    def publish(deployed: Deployed) -> None:
        for one in manifests.gateways(deployed.slot, settings):
            RemoteGateway(settings, api, one, hurry=hurry).await_replicas(deployed)

    return KubernetesCluster(settings, api, lambda: open_store(settings.evidence_url), publish)


def endpoints(api: KubernetesApi, namespace: str) -> list[Deployed]:
    """What answers in a namespace, by the EndpointSlices of replicas' Services; nobody is left out whose
    replicas are all down."""
    return deployed_of(api.list(slices(namespace), REPLICAS)["items"])


def slices(namespace: str) -> str:
    """The path of a namespace's EndpointSlices."""
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def deployed_of(found: Iterable[Object]) -> list[Deployed]:
    """Deployments by their EndpointSlices: those that take requests, and those that still end some.

    A probe that is late on a starved node says no more than that: where nobody is ready, the last resort are
    those that end and still answer their probe, as with kube-proxy, and if there are none all that have an
    address. A pod that is gone, or has ended, has none in a slice.
    """
    ready: dict[tuple[str, str, str], set[Endpoint]] = {}
    leaving, serving, there = (defaultdict[tuple[str, str, str], set[Endpoint]](set) for _ in range(3))
    for one in found:
        mine = one["metadata"]["labels"]
        key = (mine[MODEL], mine[CANDIDATE], mine[SLOT])
        ready.setdefault(key, set())
        for endpoint in one.get("endpoints") or []:
            said = endpoint.get("conditions") or {}
            where = {
                Endpoint(port["port"], host)
                for port in one.get("ports") or []
                for host in endpoint["addresses"]
            }
            there[key] |= where
            if said.get("ready", True):
                ready[key] |= where
            elif said.get("terminating"):
                leaving[key] |= where
                if said.get("serving"):
                    serving[key] |= where
    return [
        Deployed(
            *key,
            tuple(sorted(found)),
            tuple(sorted(leaving[key])),
            () if found else tuple(sorted(serving[key] or there[key])),
        )
        for key, found in sorted(ready.items())
    ]


def _path(one: Object) -> str:
    """Where an object is in the API."""
    kinds = {
        "Deployment": "deployments",
        "Service": "services",
        "PodDisruptionBudget": "poddisruptionbudgets",
        "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    }
    version, mine = one["apiVersion"], one["metadata"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{group}/namespaces/{mine['namespace']}/{kinds[one['kind']]}/{mine['name']}"


def _rolled_out(now: Object, replicas: int) -> bool:
    """Whether the controller has seen the newest wish, and as many pods of the newest kind are available."""
    status = now.get("status") or {}
    seen = status.get("observedGeneration", 0) >= now["metadata"].get("generation", 0)
    return bool(
        seen
        and min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)) >= replicas
        and status.get("replicas", 0) == status.get("updatedReplicas", 0)
    )


def _hopeless(pods: Iterable[Object]) -> str | None:
    """Why waiting is of no use, if it is of none. Who serves now is well, however often it has crashed."""
    for pod in pods:
        if _takes_requests(pod):
            continue
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            waits = (status.get("state") or {}).get("waiting") or {}
            ended = _ended(status)
            final = ended.get("exitCode") == NO_RETRY_HELPS or status.get("restartCount", 0) >= CRASHES
            stuck = waits.get("reason") in HOPELESS and NOT_READ_YET not in (waits.get("message") or "")
            if stuck or (ended and final):
                return _sentence(pod)
    return None


def _trouble(pods: Iterable[Object]) -> str | None:
    return next((said for pod in pods if not _takes_requests(pod) and (said := _sentence(pod))), None)


def _rejected(now: Object) -> str | None:
    """Why pods are not even made: a quota, a policy, an account that is missing."""
    for one in (now.get("status") or {}).get("conditions") or []:
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            return f"the cluster makes no pod of it: {one.get('message', '')}"
    return None


def _sentence(pod: Object) -> str | None:
    """What happened to a pod, and what to do about it; of one that is started again, how it crashed."""
    statuses = [
        {**one, "state": {"terminated": ended}} if (ended := _ended(one)) else one
        for one in (pod.get("status") or {}).get("containerStatuses") or []
    ]
    told = {**pod, "status": {**(pod.get("status") or {}), "containerStatuses": statuses}}
    return why_it_ended(_as_model(told), "server", pod["metadata"]["name"])


def _ended(status: Object) -> Object:
    """How a container ended, now or the last time."""
    for when in ("state", "lastState"):
        if ended := (status.get(when) or {}).get("terminated"):
            return dict(ended)
    return {}


def _image(spec: Object) -> str:
    return str(spec["containers"][0]["image"])


def _has_ended(pod: Object) -> bool:
    """Whether it was evicted, or went down with its node: it is not counted any more, and stays for reading
    until its Deployment goes."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _takes_requests(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _as_model(pod: Object) -> Any:
    """The dictionary as the client's own V1Pod."""
    import json
    from types import SimpleNamespace

    from kubernetes.client import ApiClient

    return ApiClient().deserialize(SimpleNamespace(data=json.dumps(pod)), "V1Pod")


def _replica(pod: Object) -> Replica:
    mine, (state, ready) = pod["metadata"]["labels"], _state(pod)
    return Replica(
        *(mine[MODEL], mine[CANDIDATE], mine[SLOT]),
        Endpoint(PORT, (pod.get("status") or {}).get("podIP") or "-"),
        state,
        0,
        ready,
        _since(pod),
    )


def _state(pod: Object) -> tuple[str, bool]:
    """What the cluster says of a pod, in one word, and whether it takes requests."""
    status = pod.get("status") or {}
    waits = [
        ((one.get("state") or {}).get("waiting") or {}).get("reason")
        for one in status.get("containerStatuses") or []
    ]
    leaving = "Terminating" if pod["metadata"].get("deletionTimestamp") else None
    said = leaving or next(filter(None, waits), None) or status.get("phase", "Unknown")
    return said, leaving is None and _takes_requests(pod)


def _since(pod: Object) -> float:
    since = (pod.get("status") or {}).get("startTime")
    return datetime.fromisoformat(since).timestamp() if since else 0.0
