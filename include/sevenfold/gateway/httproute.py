"""The same traffic on a cluster: one Gateway API HTTPRoute (gateway.networking.k8s.io/v1) of one `Traffic`.

What `routes` tells Envoy on a laptop is said here to whatever gateway the cluster runs: the split as weights
of a constant sum, the shadow as a RequestMirror, labels to the champion only, one candidate by its own path.
Who may ask what, retries and ejection are the gateway's policies and none of the route's business. Gateway
API has no stable way to keep a caller on one side: for that there is Envoy Gateway's own policy beside it.
"""

from __future__ import annotations

import re
from typing import Any

from sevenfold.gateway.routes import LIMIT, STICKY_HEADER, TRY_LIMIT, WEIGHTS
from sevenfold.traffic import Traffic

Resource = dict[str, Any]

PORT = 8080
"""Of the services in front of replicas."""
_PARTS = 1_000_000


def service(candidate: str, purpose: str = "live") -> str:
    """Name, a DNS label, of the Service in front of a candidate's replicas: what `Pool.name` is to Envoy.

    Args:
        candidate: its id.
        purpose: `live`, or a slot that is not.
    """
    model, _, digest = candidate.rpartition("-")
    room = 63 - len(digest) - len(purpose) - 2
    return "-".join((_label(model)[:room].rstrip("-"), digest, _label(purpose)))


def http_route(traffic: Traffic, namespace: str, gateway: str, hostname: str | None = None) -> Resource:
    """The route of `traffic.model`. Applied over an older one, it changes the split without a restart.

    Args:
        traffic: who answers which part of the requests.
        namespace: of the services, and of the route.
        gateway: name of the Gateway in the same namespace.
        hostname: the only host that is answered, if there is one.
    """
    prefix = f"/v2/models/{traffic.model}"
    rules = [_direct(traffic.model, one) for one in (traffic.champion, traffic.challenger) if one]
    if traffic.champion:
        rules.append(_rule("feedback", f"{prefix}/feedback", [_backend(traffic.champion, "feedback")]))
    rules.append(_rule("split", prefix, _sides(traffic), _mirror(traffic)))
    spec: Resource = {"parentRefs": [{"name": gateway}], "rules": rules}
    if hostname:
        spec["hostnames"] = [hostname]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": _metadata(traffic, namespace),
        "spec": spec,
    }


def sticky_policy(traffic: Traffic, namespace: str) -> Resource | None:
    """Envoy Gateway's policy that keeps a caller (header x-entity-id) on one side; None if none should be."""
    if not traffic.sticky:
        return None
    route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": _label(traffic.model)}
    header = {"type": "Header", "header": {"name": STICKY_HEADER}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": _metadata(traffic, namespace),
        "spec": {
            "targetRefs": [route],
            "loadBalancer": {"type": "ConsistentHash", "consistentHash": header},
        },
    }


def _metadata(traffic: Traffic, namespace: str) -> Resource:
    """The generation goes along, so that nobody who applies this has to go back to an older one."""
    return {
        "name": _label(traffic.model),
        "namespace": namespace,
        "labels": {"app.kubernetes.io/part-of": "sevenfold", "sevenfold.io/model": traffic.model},
        "annotations": {"sevenfold.io/generation": str(traffic.generation)},
    }


def _sides(traffic: Traffic) -> list[Resource]:
    """Nobody for a model without champion and challenger: the gateway then answers 500, as the API says."""
    weight = round(traffic.share * WEIGHTS)
    sides = []
    if traffic.champion:
        sides.append(_backend(traffic.champion, "champion", WEIGHTS - weight))
    if traffic.challenger and weight:
        sides.append(_backend(traffic.challenger, "challenger", weight))
    return sides


def _mirror(traffic: Traffic) -> list[Resource]:
    if not traffic.mirror or not traffic.challenger:
        return []
    seen = {"numerator": round(traffic.mirror * _PARTS), "denominator": _PARTS}
    shadow = {"name": service(traffic.challenger, "shadow"), "port": PORT}
    return [{"type": "RequestMirror", "requestMirror": {"backendRef": shadow, "fraction": seen}}]


def _direct(model: str, candidate: str) -> Resource:
    path = f"/v2/models/{model}/versions/{candidate}"
    return _rule(f"direct-{candidate.rpartition('-')[2]}", path, [_backend(candidate, "direct")])


def _rule(name: str, path: str, backends: list[Resource], filters: list[Resource] | None = None) -> Resource:
    rule: Resource = {
        "name": name,
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": backends,
        "timeouts": {"request": LIMIT, "backendRequest": TRY_LIMIT},
    }
    return rule | ({"filters": filters} if filters else {})


def _backend(candidate: str, arm: str, weight: int | None = None) -> Resource:
    """A backend that is told as what it answers: after a promotion the same replicas are another arm."""
    says = {"requestHeaderModifier": {"set": [{"name": "x-arm", "value": arm}]}}
    backend: Resource = {
        "name": service(candidate),
        "port": PORT,
        "filters": [{"type": "RequestHeaderModifier", **says}],
    }
    return backend | ({"weight": weight} if weight is not None else {})


def _label(name: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", name.lower())
