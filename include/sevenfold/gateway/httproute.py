"""The same traffic on a cluster: one Gateway API HTTPRoute (gateway.networking.k8s.io/v1) of one `Traffic`.

What `routes` tells Envoy on a laptop is said here to whatever gateway the cluster runs: the split as weights
of a constant sum, the shadow as a RequestMirror, labels to the champion only, one candidate by its own path.
Retries and ejection are the gateway's policies and none of the route's business. Gateway API has no stable
way to say who may ask or to keep a caller on one side: for that there are Envoy Gateway's policies beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sevenfold.gateway.filters import CLIENT_HEADER
from sevenfold.gateway.routes import LIMIT, STICKY_HEADER, TRY_LIMIT, WEIGHTS
from sevenfold.release.traffic import Traffic
from sevenfold.serving.keys import AUDIENCE, ISSUER

Resource = dict[str, Any]

PORT = 8080
"""Of replicas on a cluster, and of the services in front of them."""
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


def http_route(
    traffic: Traffic,
    namespace: str,
    gateway: str,
    hostname: str | None = None,
    mirror: str | None = None,
) -> Resource:
    """The route of `traffic.model`. Applied over an older one, it changes the split without a restart.

    Args:
        traffic: who answers which part of the requests.
        namespace: of the services, and of the route.
        gateway: name of the Gateway in the same namespace.
        hostname: the only host that is answered, if there is one.
        mirror: namespace of the shadow's service, if that is another one; a ReferenceGrant there allows it.
    """
    prefix = f"/v2/models/{traffic.model}"
    rules = [_direct(traffic.model, one) for one in (traffic.champion, traffic.challenger) if one]
    if traffic.champion:
        rules.append(_rule("feedback", f"{prefix}/feedback", [_backend(traffic.champion, "feedback")]))
    rules.append(_rule("split", prefix, _sides(traffic), _mirror(traffic, mirror)))
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


def security_policies(traffic: Traffic, namespace: str, jwks: Mapping[str, Any]) -> list[Resource]:
    """Envoy Gateway's policies that let in who has a key, as `filters` does; none of them names a candidate.

    The whole route is for admins, and so is one candidate by its own path, whoever it is. The split is also
    for whoever may predict, labels for who may bring them: a policy of a rule takes the place of the route's.
    So there is none to delete after a candidate, while somebody else may write the same.
    """
    allowed: dict[str | None, tuple[str, ...]] = {None: ("admin",), "split": ("predict", "admin")}
    if traffic.champion:
        allowed["feedback"] = ("feedback", "admin")
    return [_policy(traffic, namespace, rule, scopes, jwks) for rule, scopes in allowed.items()]


def _policy(
    traffic: Traffic, namespace: str, rule: str | None, scopes: tuple[str, ...], jwks: Mapping[str, Any]
) -> Resource:
    route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": _label(traffic.model)}
    section = {"sectionName": rule} if rule else {}
    provider = {
        "name": ISSUER,
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "localJWKS": {"type": "Inline", "inline": json.dumps(jwks, sort_keys=True)},
        "claimToHeaders": [{"header": CLIENT_HEADER, "claim": "sub"}],
    }
    allow = [
        {
            "name": scope,
            "action": "Allow",
            "principal": {
                "jwt": {
                    "provider": ISSUER,
                    "claims": [{"name": "scopes", "valueType": "StringArray", "values": [scope]}],
                }
            },
        }
        for scope in scopes
    ]
    metadata = _metadata(traffic, namespace)
    del metadata["annotations"]  # who may ask is no matter of a generation
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "SecurityPolicy",
        "metadata": {**metadata, "name": f"{_label(traffic.model)}-{rule or 'route'}"},
        "spec": {
            "targetRefs": [{**route, **section}],
            "jwt": {"providers": [provider]},
            "authorization": {"defaultAction": "Deny", "rules": allow},
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


def _mirror(traffic: Traffic, namespace: str | None) -> list[Resource]:
    if not traffic.mirror or not traffic.challenger:
        return []
    seen = {"numerator": round(traffic.mirror * _PARTS), "denominator": _PARTS}
    shadow: Resource = {"name": service(traffic.challenger, "shadow"), "port": PORT}
    if namespace:
        shadow["namespace"] = namespace
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
