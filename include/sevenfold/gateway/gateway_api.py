"""Callers routed by the cluster's own Gateway API implementation: the HTTPRoute, and who may ask, as objects.

The setting `gateway_api` names the Gateway. Routes, sticky callers and keys are written only if they are not
older than what stands there, whoever else writes at the same time: each change names the version that it
replaces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sevenfold import direct_http
from sevenfold.gateway.envoy import soon
from sevenfold.gateway.httproute import http_route, security_policies, sticky_policy
from sevenfold.gateway.local import StaleTraffic
from sevenfold.gateway.remote import ASK_S, NotInForce
from sevenfold.kubernetes.api import Changed, KubernetesApi, Object
from sevenfold.release.traffic import Traffic
from sevenfold.settings import Settings

ENVIRONMENT = "production"
SAID = "sevenfold.io/traffic"
"""The annotation with the whole split: what stands there can be read back."""
ACCEPTED = ("Accepted", "ResolvedRefs")
LIMIT_S, EVERY_S = 30.0, 0.2
TURNS = 20
"""How often somebody else may be quicker."""


class RouteGateway:
    """The router of callers, told by objects of the Gateway API."""

    def __init__(self, settings: Settings, api: KubernetesApi, jwks: Callable[[], Mapping[str, Any]]) -> None:
        """
        Args:
            settings: the Gateway's name, the namespace, where callers ask.
            api: the Kubernetes API.
            jwks: the public keys of callers' tokens.
        """
        self._settings, self._api, self._jwks = settings, api, jwks
        self._namespace = settings.namespace_of(ENVIRONMENT)

    def running(self) -> bool:
        """Whether the Gateway answers callers; what it says to who has no key is answer enough."""
        url = self._settings.callers_url.rstrip("/")
        return direct_http.answers(f"{url}/healthz", ASK_S, any_status=True)

    def apply(self, traffic: Traffic) -> None:
        """Makes this the split, and returns when the Gateway's controller has accepted it.

        Who may ask is written first: nobody is let in by a route without it.

        Raises:
            StaleTraffic: a later generation stands there, or another split of the same one.
            NotInForce: the controller does not accept it, with what it says.
        """
        for policy in security_policies(traffic, self._namespace, self._jwks()):
            self._write(policy, lambda there: None)
        route = http_route(
            traffic,
            self._namespace,
            self._settings.gateway_api,
            mirror=self._settings.namespace_of("preproduction"),
        )
        route["metadata"]["annotations"][SAID] = json.dumps(asdict(traffic))
        self._write(route, lambda there: _require_not_older(traffic, _traffic(there)))
        sticky = sticky_policy(traffic, self._namespace)
        if sticky is None:
            self._api.delete(self._path(_metadata("BackendTrafficPolicy", route)))
        else:
            self._write(sticky, lambda there: None)
        self._await_accepted(route)

    def marks(self) -> set[str]:
        """None: the Gateway's own Envoys log elsewhere."""
        return set()

    def traffic(self, model: str) -> Traffic | None:
        """The split that stands there; None before the first."""
        route = http_route(Traffic(model, None), self._namespace, self._settings.gateway_api)
        there = self._api.get(self._path(route))
        return _traffic(there) if there else None

    def _write(self, wanted: Object, check: Callable[[Object], None]) -> None:
        """Creates or replaces an object; `check` refuses to replace the one that is there."""
        for _ in range(TURNS):
            there = self._api.get(self._path(wanted))
            try:
                if there is None:
                    self._api.create(self._path(wanted), wanted)
                    return
                check(there)
                if not _says(there, wanted):
                    version = {"resourceVersion": there["metadata"]["resourceVersion"]}
                    self._api.replace(
                        self._path(wanted), {**wanted, "metadata": {**wanted["metadata"], **version}}
                    )
                return
            except Changed:
                continue
        raise NotInForce(f"{self._path(wanted)} changes faster than it can be written")

    def _await_accepted(self, route: Object) -> None:
        said: list[str] = []

        def accepted() -> bool:
            said[:] = list(_lacking(self._api.get(self._path(route)) or {}))
            return not said

        if not soon(accepted, LIMIT_S, EVERY_S):
            name = route["metadata"]["name"]
            raise NotInForce(
                f"HTTPRoute {name} of {self._namespace} is not accepted within {LIMIT_S:.0f} s: "
                f"{'; '.join(said)}"
            )

    def _path(self, one: Object) -> str:
        kinds = {
            "HTTPRoute": "httproutes",
            "SecurityPolicy": "securitypolicies",
            "BackendTrafficPolicy": "backendtrafficpolicies",
        }
        place = f"namespaces/{self._namespace}/{kinds[one['kind']]}/{one['metadata']['name']}"
        return f"/apis/{one['apiVersion']}/{place}"


def _metadata(kind: str, route: Object) -> Object:
    """Who a policy is that has the route's name."""
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": route["metadata"]["name"]},
    }


def _traffic(route: Object) -> Traffic | None:
    said = (route["metadata"].get("annotations") or {}).get(SAID)
    return Traffic(**json.loads(said)) if said else None


def _require_not_older(wanted: Traffic, there: Traffic | None) -> None:
    if there is not None and there != wanted and wanted.generation <= there.generation:
        raise StaleTraffic(
            f"generation {there.generation} of {wanted.model}'s traffic is routed: "
            f"generation {wanted.generation} comes too late"
        )


def _says(there: Object, wanted: Object) -> bool:
    """Whether an object says already what is wanted of it."""
    mine = there["metadata"]
    return there.get("spec") == wanted["spec"] and all(
        (mine.get(part) or {}).get(name) == value
        for part in ("labels", "annotations")
        for name, value in (wanted["metadata"].get(part) or {}).items()
    )


def _lacking(route: Object) -> Iterator[str]:
    """What keeps a route from being in force, as far as its controllers say."""
    parents = (route.get("status") or {}).get("parents") or []
    if not parents:
        yield "no controller has looked at it: is there a Gateway of this name?"
    for parent in parents:
        conditions = {one["type"]: one for one in parent.get("conditions") or []}
        for name in ACCEPTED:
            one = conditions.get(name, {})
            current = one.get("observedGeneration", 0) >= route["metadata"].get("generation", 0)
            if one.get("status") != "True" or not current:
                yield f"{name}: {one.get('message') or 'not yet'}"
