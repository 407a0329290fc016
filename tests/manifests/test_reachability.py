"""Who may talk to whom: the graph that the NetworkPolicies make equals the list written here."""

from __future__ import annotations

from typing import Any

import pytest
from tests.manifests.reachability import End, Network, edges
from tests.manifests.rendered import Resource, of_kind, overlay, pods

from sevenfold.environments import ENVIRONMENTS

EVERY = "development training testing staging preproduction production monitoring"
ALLOWED = f"""
# who                                      may reach                        at
{{{EVERY}}}/activity                       postgresql                       5432
{{{EVERY}}}/activity                       objects                          443
{{development training staging}}/activity  mlflow                           5000
training/node            training/node-of-the-same-job  1024 5000 5432 6443 8000 8001 8002 8080 65535
training/node                              postgresql                       5432
training/node                              objects                          443
training/node                              mlflow                           5000

# what has a service
{{staging preproduction production}}/activity  own/gateway                  8000 8002
{{staging preproduction production}}/activity  kubernetes                   443 6443
{{staging preproduction production}}/gateway   own/server                   8080
{{staging preproduction production}}/gateway   postgresql                   5432
{{staging preproduction production}}/gateway   kubernetes                   443 6443
{{staging preproduction production}}/server    postgresql                   5432
{{staging preproduction production}}/server    objects                      443
staging/activity                           airflow/api-server               8080
preproduction/activity                     production/gateway               8000 8002
preproduction/activity                     own/server                       8080
production/gateway                         preproduction/server             8080
production/reconciler                      postgresql                       5432
production/reconciler                      kubernetes                       443 6443
production/reconciler                      mlflow                           5000
production/reconciler                      production/gateway               8002
monitoring/watchman                        postgresql                       5432
monitoring/watchman                        kubernetes                       443 6443
monitoring/watchman                        production/server                8080

# Airflow
airflow/{{scheduler worker triggerer dag-processor api-server migrate evidence}}  postgresql  5432
airflow/{{scheduler worker triggerer dag-processor api-server migrate evidence}}  objects     443
airflow/{{scheduler worker triggerer}}     kubernetes                       443 6443
airflow/{{scheduler worker triggerer}}     airflow/api-server               8080

# MLflow
mlflow                                     postgresql                       5432
mlflow                                     objects                          443

# from outside
{{caller callers-address}}                 production/gateway               8000
prometheus                                 {{staging preproduction production}}/gateway  8001
prometheus                                 {{staging preproduction production}}/server   8080
ingress                                    airflow/api-server               8080
"""


def allowed(text: str = ALLOWED) -> set[str]:
    """The list, with what stands in braces spelt out; everybody may ask the name service."""
    told = set()
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        sender, receiver, ports = _three(line)
        for who in _spelt(sender):
            for whom in _spelt(receiver.replace("own/", f"{who.partition('/')[0]}/")):
                told |= {f"{who} -> {whom}:{port}" for port in ports.split()}
    return told


def _three(line: str) -> tuple[str, str, str]:
    sender, receiver, ports = (part.strip() for part in line.split("  ") if part.strip())
    return sender, receiver, ports


def _spelt(name: str) -> list[str]:
    head, brace, rest = name.partition("{")
    if not brace:
        return [name]
    inside, _, tail = rest.partition("}")
    return [f"{head}{one}{tail}" for one in inside.split()]


OUTSIDE = {
    "postgresql": End(address="10.0.16.10"),
    "objects": End(address="10.0.16.20"),
    "kubernetes": End(address="10.96.0.1"),
    "kubernetes-servers": End(address="10.0.0.3"),
    "callers-address": End(address="10.0.9.9"),
    "internet": End(address="198.51.100.7"),
    "caller": End("shop", {"app": "shop"}, {"sevenfold.io/calls-production": "true"}),
    "ingress": End("ingress", {}, {"sevenfold.io/calls-airflow": "true"}),
    "prometheus": End("monitoring", {}, {"kubernetes.io/metadata.name": "monitoring"}),
    "stranger": End(
        "default", {"app.kubernetes.io/component": "activity"}, {"kubernetes.io/metadata.name": "default"}
    ),
    "dns": End("kube-system", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
}
"""Addresses as overlays/production/settings.yaml has them."""


def ends(resources: list[Resource]) -> dict[str, End]:
    """Every kind of pod that there is on a cluster: of kustomize, the DAGs, Helm's chart, and others."""
    space = {
        one["metadata"]["name"]: {
            **one["metadata"]["labels"],
            "kubernetes.io/metadata.name": one["metadata"]["name"],
        }
        for one in of_kind(resources, "Namespace")
    }

    def pod(environment: str, component: str, **more: str) -> End:
        labels = {"app.kubernetes.io/part-of": "sevenfold", "app.kubernetes.io/component": component, **more}
        return End(f"sevenfold-{environment}", labels, space[f"sevenfold-{environment}"])

    found = {f"{environment}/activity": pod(environment, "activity") for environment in ENVIRONMENTS}
    found |= {f"{name}/server": pod(name, "server") for name in ("staging", "preproduction", "production")}
    job = {"batch.kubernetes.io/job-name": "train"}
    found |= {
        f"training/{name}": pod("training", "activity", **job) for name in ("node", "node-of-the-same-job")
    }
    for _, made in pods(resources):
        namespace, labels = made["metadata"]["namespace"], made["metadata"]["labels"]
        name = labels.get("component") or labels["app.kubernetes.io/component"]
        place = namespace.removeprefix("sevenfold-")
        found[place if place == name else f"{place}/{name}"] = End(namespace, labels, space[namespace])
    airflow = space["sevenfold-airflow"]
    found["airflow/worker"] = End("sevenfold-airflow", {"tier": "airflow", "component": "worker"}, airflow)
    return found | OUTSIDE


def graph(resources: list[Resource]) -> set[str]:
    """Every possible connection, without the name service; both addresses of the API are one."""
    found = set(edges(Network(of_kind(resources, "NetworkPolicy")), ends(resources)))
    ours = {name for name, end in ends(resources).items() if end.namespace.startswith("sevenfold-")}
    for name in ours:
        asked = {f"{name} -> dns:udp/53", f"{name} -> dns:53"}
        assert asked <= found, f"{name} cannot look names up"
        found -= asked
    found = {edge for edge in found if not edge.startswith("training/node-of-the-same-job")}
    found = {edge.replace("kubernetes-servers:", "kubernetes:") for edge in found}
    among_strangers = {edge for edge in found if _ends_of(edge) <= OUTSIDE.keys()}
    return found - among_strangers


def _ends_of(edge: str) -> set[str]:
    sender, _, rest = edge.partition(" -> ")
    return {sender, rest.rpartition(":")[0]}


def test_the_graph_is_the_list() -> None:
    found, wanted = graph(overlay("production")), allowed()
    assert found - wanted == set(), "possible, and not allowed"
    assert wanted - found == set(), "allowed, and not possible"


def test_training_reaches_production_in_no_way() -> None:
    for name in ("laptop-kind", "staging-like", "production"):
        resources = overlay(name)
        network, there = Network(of_kind(resources, "NetworkPolicy")), ends(resources)
        before = [
            end
            for who, end in there.items()
            if who.partition("/")[0] in ("development", "training", "testing")
        ]
        after = [
            end
            for who, end in there.items()
            if who.partition("/")[0] in ("staging", "preproduction", "production", "monitoring")
        ]
        assert len(before) >= 5
        assert len(after) >= 10
        for protocol, port in network.ports():
            assert not [
                (one, other)
                for one in before
                for other in after
                if network.reaches(one, other, port, protocol)
            ]


@pytest.mark.parametrize(
    ("namespace", "policy", "change"),
    [
        ("sevenfold-training", "default-deny", lambda spec: spec.update(policyTypes=["Egress"])),
        ("sevenfold-training", "to-mlflow", lambda spec: spec["egress"][0].pop("to")),
        ("sevenfold-production", "server", lambda spec: spec["ingress"][0].pop("from")),
        ("sevenfold-production", "from-callers", lambda spec: spec["ingress"][0].pop("ports")),
        (
            "sevenfold-testing",
            "to-postgresql",
            lambda spec: spec["egress"][0]["to"][0]["ipBlock"].update(cidr="0.0.0.0/0"),
        ),
        ("sevenfold-preproduction", "to-production", lambda spec: spec.update(egress=[])),
        ("sevenfold-airflow", "to-kubernetes", lambda spec: spec["podSelector"].pop("matchExpressions")),
        ("sevenfold-staging", "to-airflow", lambda spec: spec.update(egress=[])),
    ],
)
def test_a_policy_that_is_loosened_or_forgotten_is_noticed(namespace: str, policy: str, change: Any) -> None:
    resources = overlay("production")
    changed = next(
        one
        for one in of_kind(resources, "NetworkPolicy")
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, policy)
    )
    change(changed["spec"])
    assert graph(resources) != allowed()


def test_on_a_laptop_the_database_and_the_objects_are_pods_of_the_cluster() -> None:
    resources = overlay("laptop-kind")
    network, there = Network(of_kind(resources, "NetworkPolicy")), ends(resources)
    storage = {name: there[f"storage/{name}"] for name in ("postgresql", "objects")}
    for environment in ENVIRONMENTS:
        assert network.reaches(there[f"{environment}/activity"], storage["postgresql"], 5432)
        assert network.reaches(there[f"{environment}/activity"], storage["objects"], 9000)
        assert not network.reaches(there[f"{environment}/activity"], storage["postgresql"], 9000)
        assert not network.reaches(OUTSIDE["stranger"], storage["postgresql"], 5432)
    assert not network.reaches(storage["postgresql"], there["production/gateway"], 8000)
