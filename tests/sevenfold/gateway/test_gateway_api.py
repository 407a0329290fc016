"""Callers routed by the cluster's own Gateway: what is written, and that it never goes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import kmock
import pytest
from tests.mock_kubernetes.server import Fault, MockKubernetes, mock_kubernetes

from sevenfold.gateway import StaleTraffic, gateway_api, open_gateway
from sevenfold.gateway.gateway_api import RouteGateway
from sevenfold.gateway.httproute import security_policies
from sevenfold.gateway.remote import NotInForce
from sevenfold.kubernetes.api import ClusterRefused, KubernetesApi
from sevenfold.release.traffic import Traffic
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import Settings, settings

ONE, TWO, THREE = (f"toy-{number:012}" for number in (1, 2, 3))
PRODUCTION = "sevenfold-production"
ROUTES = kmock.resource("gateway.networking.k8s.io/v1/httproutes")
POLICIES, STICKY = (
    kmock.resource(f"gateway.envoyproxy.io/v1alpha1/{plural}")
    for plural in ("securitypolicies", "backendtrafficpolicies")
)


class World:
    """The router, and a controller that accepts what it is given unless it is told otherwise."""

    def __init__(self, api: MockKubernetes, home: Path) -> None:
        self.api, self.accepts = api, True
        self.here = Settings(
            home=home, kubeconfig=api.kubeconfig, runtime="kubernetes", gateway_api="callers"
        )
        self.keys = GatewayKeys(self.here.secrets)
        self.router = RouteGateway(self.here, KubernetesApi(self.here, lambda seconds: None), self.keys.jwks)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._control)
        self._thread.start()

    def route(self) -> dict[str, Any]:
        (found,) = self.api.there(ROUTES).values()
        return found

    def who_may(self) -> dict[str, list[str]]:
        """The scopes that each rule of the route lets in, as Envoy Gateway takes policies: the rule's own, or
        the route's."""
        found = {}
        for one in self.api.there(POLICIES, PRODUCTION).values():
            (target,) = one["spec"]["targetRefs"]
            assert one["spec"]["authorization"]["defaultAction"] == "Deny"
            claims = [rule["principal"]["jwt"]["claims"] for rule in one["spec"]["authorization"]["rules"]]
            found[target.get("sectionName")] = [claim["values"][0] for (claim,) in claims]
        rules = [one["name"] for one in self.route()["spec"]["rules"]]
        return {rule: found[rule] if rule in found else found[None] for rule in rules}

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _control(self) -> None:
        while not self._stop.wait(0.01):
            for name, one in self.api.there(ROUTES, PRODUCTION).items():
                status = {"status": "True" if self.accepts else "False", "message": "no such Gateway"}
                seen = {"observedGeneration": one["metadata"]["generation"]}
                conditions = [{"type": kind, **status, **seen} for kind in ("Accepted", "ResolvedRefs")]
                said = {"parents": [{"conditions": conditions}]}
                if one.get("status") != said:
                    self.api.change((ROUTES, PRODUCTION, name), {"status": said})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(gateway_api, "LIMIT_S", 2.0)
    monkeypatch.setattr(gateway_api, "EVERY_S", 0.02)
    with mock_kubernetes(tmp_path) as api:
        made = World(api, tmp_path)
        yield made
        made.end()


def split(generation: int, share: float = 0.25, **more: Any) -> Traffic:
    return Traffic("toy", ONE, TWO, share=share, generation=generation, **more)


def test_a_split_is_a_route_with_its_keys_beside_it(world: World) -> None:
    world.router.apply(split(3, mirror=0.5))
    (rule,) = [one for one in world.route()["spec"]["rules"] if one["name"] == "split"]
    assert [backend["weight"] for backend in rule["backendRefs"]] == [7500, 2500]
    assert rule["filters"][0]["requestMirror"]["backendRef"]["namespace"] == "sevenfold-preproduction"
    assert world.router.traffic("toy") == split(3, mirror=0.5)
    assert world.who_may() == {
        "split": ["predict", "admin"],
        "feedback": ["feedback", "admin"],
        "direct-000000000001": ["admin"],
        "direct-000000000002": ["admin"],
    }


def test_no_policy_goes_with_a_candidate_so_none_is_left_behind_or_missing(world: World) -> None:
    world.router.apply(split(3))
    kept = world.api.there(POLICIES, PRODUCTION)
    for generation, (champion, challenger) in enumerate([(TWO, None), (TWO, THREE), (THREE, ONE)], 4):
        world.router.apply(Traffic("toy", champion, challenger, share=0.0, generation=generation))
        assert world.who_may()[f"direct-{champion[-12:]}"] == ["admin"]
    assert world.api.there(POLICIES, PRODUCTION) == kept


def test_a_writer_that_comes_too_late_takes_no_path_its_keys(world: World) -> None:
    world.router.apply(split(3))
    world.router.apply(Traffic("toy", TWO, THREE, share=0.5, generation=5))
    with pytest.raises(StaleTraffic):
        world.router.apply(Traffic("toy", ONE, None, generation=4))
    assert world.who_may().keys() == {
        *("split", "feedback", "direct-000000000002", "direct-000000000003"),
    }


def test_models_whose_names_begin_alike_have_policies_of_their_own(world: World) -> None:
    names = [
        {one["metadata"]["name"] for one in security_policies(Traffic(model, ONE), PRODUCTION, {})}
        for model in ("toy", "toy_split", "toy_route")
    ]
    assert len(set.union(*names)) == sum(map(len, names))


def test_keys_stand_there_before_the_route(world: World) -> None:
    world.router.apply(split(3))
    made = [path for method, path in world.api.asked if method == "POST"]
    assert ["httproutes" in path for path in made] == [False] * 3 + [True]
    assert world.router.traffic("unknown") is None


def test_the_same_again_changes_nothing_and_new_keys_change_their_policies(world: World) -> None:
    world.router.apply(split(3))
    changes = world.api.changes()
    world.router.apply(split(3))
    assert world.api.changes() == changes
    world.keys.rotate()
    world.router.apply(split(3))
    assert world.api.changes() == changes + 3


def test_it_never_goes_back(world: World) -> None:
    world.router.apply(split(3))
    with pytest.raises(
        StaleTraffic, match="generation 3 of toy's traffic is routed: generation 2 comes too late"
    ):
        world.router.apply(split(2))
    with pytest.raises(StaleTraffic):
        world.router.apply(split(3, share=0.5))
    world.router.apply(split(4, share=0.5))
    assert world.router.traffic("toy") == split(4, share=0.5)


def test_whoever_writes_at_the_same_time_the_newest_stays(world: World) -> None:
    def write(generation: int) -> None:
        with suppress(StaleTraffic):
            world.router.apply(split(generation))

    threads = [threading.Thread(target=write, args=(generation,)) for generation in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.router.traffic("toy") == split(6)


def test_a_sticky_split_has_its_policy_until_it_is_none(world: World) -> None:
    world.router.apply(split(3, sticky=True))
    assert set(world.api.there(STICKY)) == {"toy"}
    world.router.apply(split(4))
    assert world.api.there(STICKY) == {}


def test_what_the_gateway_does_not_accept_is_said(world: World) -> None:
    world.accepts = False
    with pytest.raises(
        NotInForce, match=r"HTTPRoute toy of sevenfold-production is not accepted .* no such Gateway"
    ):
        world.router.apply(split(3))


def test_a_cluster_without_the_api_says_so(world: World) -> None:
    world.api.faults = [Fault("POST", "securitypolicies", 404, times=100)]
    with pytest.raises(ClusterRefused, match="refuses POST"):
        world.router.apply(split(3))


def test_the_setting_decides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_RUNTIME", "kubernetes")
    monkeypatch.setenv("SEVENFOLD_HOME", str(world.here.home))
    monkeypatch.setenv("SEVENFOLD_GATEWAY_API", "callers")
    settings.cache_clear()
    try:
        assert isinstance(open_gateway(), RouteGateway)
        assert not isinstance(open_gateway("staging"), RouteGateway)
    finally:
        settings.cache_clear()
