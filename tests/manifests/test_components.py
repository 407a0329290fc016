"""Components that no overlay has by itself: over production they add what they say, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from tests.manifests.openapi import mistakes, model_of
from tests.manifests.reachability import End, Network
from tests.manifests.rendered import KUBERNETES, Resource, of_kind, overlay, pods, read, render
from tests.manifests.rights import matrix, rights
from tests.manifests.test_objects import dangling
from tests.manifests.test_reachability import ends
from tests.manifests.test_rights import MATRIX

from sevenfold.gateway.httproute import http_route
from sevenfold.release.traffic import Traffic

PRODUCTION = "sevenfold-production"
ROUTE = http_route(
    Traffic("m", "m-1", "m-2", mirror=1.0), PRODUCTION, "callers", None, "sevenfold-preproduction"
)
(MIRROR,) = [
    one["requestMirror"]["backendRef"] for rule in ROUTE["spec"]["rules"] for one in rule.get("filters", [])
]
WHO = "production/promoter preproduction/promoter production/reconciler | production"
ROUTERS = f"""
{WHO} | gateway.networking.k8s.io/httproutes | get create update
{WHO} | gateway.envoyproxy.io/securitypolicies | get create update
{WHO} | gateway.envoyproxy.io/backendtrafficpolicies | get create update delete
"""


WRITERS = ("sevenfold-production/reconciler", "sevenfold-production/roll-back")
"""Who changes routes beside activities, whose pods have the keys (include/kubernetes/pods)."""


def with_component(name: str, folder: Path) -> list[Resource]:
    """The overlay production with one more component, as a platform team would write it."""
    folder.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(KUBERNETES / "overlays" / "production", folder.resolve())],
        "components": [os.path.relpath(KUBERNETES / "components" / name, folder.resolve())],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return read(render(folder))


def files(resources: list[Resource]) -> dict[str, set[str]]:
    """The files of its namespace's Secret that each pod mounts."""
    return {
        name: {item["path"] for item in volume["secret"]["items"]}
        for name, pod in pods(resources)
        for volume in pod["spec"].get("volumes", [])
        if volume.get("secret", {}).get("secretName") == "sevenfold-files"
    }


def test_external_secrets_fetch_every_secret_that_is_documented(tmp_path: Path) -> None:
    resources = with_component("external-secrets", tmp_path / "overlay")
    fetched = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["spec"]
        for one in of_kind(resources, "ExternalSecret")
    }
    document = yaml.safe_load((KUBERNETES / "secrets.example.yaml").read_text())
    here = {one["metadata"]["name"] for one in of_kind(resources, "Namespace")}
    wanted = {
        (space, name) for name, told in document.items() for space in told["namespaces"] if space in here
    }
    assert fetched.keys() == wanted
    for (space, name), spec in fetched.items():
        assert spec == {
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": "sevenfold"},
            "dataFrom": [{"extract": {"key": f"sevenfold/{space.removeprefix('sevenfold-')}/{name}"}}],
        }


def test_a_gateway_of_the_cluster_gets_its_routes_from_production_and_its_mirror_only(tmp_path: Path) -> None:
    resources = with_component("gateway-api", tmp_path / "overlay")
    ours = [one for one in resources if model_of(one["apiVersion"], one["kind"])]
    assert not [wrong for one in ours for wrong in mistakes(one)]
    assert not dangling(resources)
    assert rights(resources) == matrix(MATRIX) | matrix(ROUTERS)
    (grant,) = of_kind(resources, "ReferenceGrant")
    assert grant["metadata"]["namespace"] == MIRROR["namespace"]
    assert grant["spec"]["from"] == [
        {"group": ROUTE["apiVersion"].partition("/")[0], "kind": ROUTE["kind"], "namespace": PRODUCTION}
    ]
    assert grant["spec"]["to"] == [{"group": "", "kind": "Service"}]
    told = {
        one["metadata"]["namespace"]
        for one in of_kind(resources, "ConfigMap")
        if one["data"].get("SEVENFOLD_GATEWAY_API") == "callers"
    }
    assert told == {"sevenfold-production", "sevenfold-preproduction"}
    writers = {name: keys for name, keys in files(resources).items() if name.endswith(WRITERS)}
    assert len(writers) == len(WRITERS)
    assert all("gateway_jwks.json" in keys for keys in writers.values()), "who may ask goes with each route"
    network, there = Network(of_kind(resources, "NetworkPolicy")), ends(resources)
    plane = End("gateways", {}, {"sevenfold.io/gateway-api": "true"})
    reached = {
        (name, port)
        for name, end in there.items()
        for port in (8000, 8002, 8080)
        if network.reaches(plane, end, port) and not end.address
    }
    before = Network(of_kind(overlay("production"), "NetworkPolicy"))
    assert {one for one in reached if not before.reaches(plane, there[one[0]], one[1])} == {
        ("production/server", 8080),
        ("preproduction/server", 8080),
    }
