"""What a deployment of a candidate is on Kubernetes: values in, objects out.

Champion and challenger replicas of one candidate are one Deployment: on the day of its promotion the same
pods go on answering, and what they are called is the route's business. `slot` says as what it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sevenfold.cluster import Deployment
from sevenfold.errors import SevenfoldError
from sevenfold.gateway.httproute import PORT
from sevenfold.kubernetes.secret_files import NAME as FILES
from sevenfold.model.spec import Resources
from sevenfold.release.autoscaling import CALM_S, Scale
from sevenfold.serving import pseudonyms
from sevenfold.serving.admission import ENVIRONMENT_OF, LIVE, arm
from sevenfold.settings import Settings

Resource = dict[str, Any]

PART_OF, COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"
MODEL, CANDIDATE = "sevenfold.io/model", "sevenfold.io/candidate"
SLOT, PURPOSE = "sevenfold.io/slot", "sevenfold.io/purpose"
REPLICAS: Mapping[str, str] = {PART_OF: "sevenfold", COMPONENT: "server"}
"""The labels of everything that belongs to replicas."""
IN_FLIGHT = "sevenfold_requests_in_flight"
"""The external metric of the HPA: the requests that a candidate has and has not answered, over all gateways
(include/kubernetes/prometheus-adapter.yaml makes it of what Envoy prints)."""
MIRRORED = "shadow"
"""The slot that sees what callers ask."""
CPU_PERCENT = 70
"""What the HPA aims at where there are no custom metrics: a replica uses one core at most."""
PAUSE_S = 2
"""Before a replica is told to end: by then it is in nobody's list of endpoints any more."""
GRACE_S = 30
"""For the pause, the server's own drain (3 s) and its last requests (10 s)."""
USER = 10001


class NameTooLong(SevenfoldError):
    """A candidate's id is a label of its pods, and those have 63 letters at most."""


def purpose(slot: str) -> str:
    """`live` for champion and challenger, else the slot."""
    return "live" if slot in LIVE else slot


def environment(slot: str) -> str:
    """The environment that a slot is part of."""
    return ENVIRONMENT_OF[arm(slot)]


def gateways(slot: str, here: Settings) -> tuple[str, ...]:
    """The environments whose gateways of ours ask the replicas of a slot: production's mirrors to the shadow.

    Where production's callers are routed by the cluster's own Gateway, that finds the replicas by itself.
    """
    found = (environment(slot), *(("production",) if slot == MIRRORED else ()))
    return tuple(one for one in found if not (here.gateway_api and one == "production"))


def labels(wanted: Deployment) -> dict[str, str]:
    """Who the replicas are.

    Raises:
        NameTooLong: the model's name is too long for a cluster.
    """
    if len(wanted.candidate) > 63:
        raise NameTooLong(
            f"{wanted.candidate} has more than 63 letters, which Kubernetes takes for no label: give the "
            "model a name of at most 50"
        )
    return {
        **REPLICAS,
        MODEL: wanted.model,
        CANDIDATE: wanted.candidate,
        SLOT: wanted.slot,
        PURPOSE: purpose(wanted.slot),
    }


def deployment(
    name: str, namespace: str, wanted: Deployment, image: str, resources: Resources, here: Settings
) -> Resource:
    """The Deployment; the number of its replicas is no part of it, so that an HPA's is not reset.

    Args:
        name: see `sevenfold.gateway.httproute.service`.
        namespace: of the slot's environment.
        wanted: who, and as what.
        image: its reference.
        resources: of one replica.
        here: pull policy and priority class of replicas on this cluster, and where their variables come from.
    """
    mine = labels(wanted)
    chosen = {"matchLabels": _selector(mine)}
    container: Resource = {
        "name": "server",
        "image": image,
        "args": [
            *("--model", wanted.model, "--candidate", wanted.candidate, "--slot", wanted.slot),
            *("--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104 - network policies say who may ask
        ],
        "env": [
            {"name": "SEVENFOLD_LOGS", "value": "/logs"},
            {"name": "SEVENFOLD_SECRETS", "value": "/secrets"},
        ],
        "envFrom": [
            {"configMapRef": {"name": "sevenfold", "optional": True}},
            {"secretRef": {"name": here.server_secret}},
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": resources.cpu, "memory": resources.memory},
            "limits": {"cpu": resources.cpu, "memory": resources.memory},
        },
        "startupProbe": _probe("live", period=1, failures=120),
        "readinessProbe": _probe("ready", period=1, failures=3),
        "livenessProbe": _probe("live", period=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PAUSE_S}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "logs", "mountPath": "/logs"},
            {"name": "secrets", "mountPath": "/secrets", "readOnly": True},
        ],
    }
    if here.image_pull_policy:
        container["imagePullPolicy"] = here.image_pull_policy
    pod: Resource = {
        "serviceAccountName": "server",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": here.priority_class,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": chosen,
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [container],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": "4Gi"}},
            {"name": "logs", "persistentVolumeClaim": {"claimName": "sevenfold-logs"}},
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _files()}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": mine},
        "spec": {
            "selector": chosen,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": mine}, "spec": pod},
        },
    }


def service(owner: Resource) -> Resource:
    """The Service in front of a Deployment; its labels are those of its EndpointSlices, where the gateway
    reads who the replicas are."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(owner),
        "spec": {
            "selector": _selector(owner["metadata"]["labels"]),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def disruption_budget(owner: Resource) -> Resource:
    """Nodes may be emptied of one replica at a time, also of the only one."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _owned(owner),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": _selector(owner["metadata"]["labels"])},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def autoscaler(owner: Resource, scale: Scale, in_flight: bool) -> Resource:
    """The HPA: model.yaml's numbers mean the same here and on a laptop (see sevenfold.release.autoscaling).

    Args:
        owner: the Deployment.
        scale: bounds, and requests in flight of each replica.
        in_flight: whether the cluster has the external metric; else CPU decides.
    """
    candidate = {"matchLabels": {"envoy_cluster_name": owner["metadata"]["labels"][CANDIDATE]}}
    target = {"type": "AverageValue", "averageValue": f"{round(scale.in_flight * 1000)}m"}
    requests = {"type": "External", "external": {"metric": {"name": IN_FLIGHT, "selector": candidate}}}
    requests["external"]["target"] = target  # type: ignore[index]
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}}
    down = {"type": "Pods", "value": 1, "periodSeconds": int(CALM_S)}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _owned(owner),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": owner["metadata"]["name"],
            },
            "minReplicas": scale.least,
            "maxReplicas": scale.most,
            "metrics": [requests if in_flight else {"type": "Resource", "resource": cpu}],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
                "scaleDown": {"stabilizationWindowSeconds": int(CALM_S), "policies": [down]},
            },
        },
    }


def _owned(owner: Resource) -> Resource:
    """Metadata of what goes when the Deployment goes."""
    mine = owner["metadata"]
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": mine["name"], "uid": mine["uid"]}
    return {
        "name": mine["name"],
        "namespace": mine["namespace"],
        "labels": dict(mine["labels"]),
        "ownerReferences": [reference],
    }


def _selector(mine: Mapping[str, str]) -> dict[str, str]:
    """What tells these replicas from all others in the namespace."""
    return {name: mine[name] for name in (PART_OF, COMPONENT, CANDIDATE, PURPOSE)}


def _probe(path: str, period: int, failures: int) -> Resource:
    return {
        "httpGet": {"path": f"/v2/health/{path}", "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _files() -> list[Resource]:
    """Of the namespace's secret files a replica gets the public keys that prove its candidate's evidence, and
    the key of hashes in logs where there is one."""
    public = [{"key": name, "path": f"evidence/{name}"} for name in ("trusted.json", "people.json")]
    hashes = [{"key": pseudonyms.FILE, "path": pseudonyms.FILE}]
    return [
        {"secret": {"name": FILES, "items": public}},
        {"secret": {"name": FILES, "items": hashes, "optional": True}},
    ]
