"""The manifests on a real cluster: what it takes, whom it lets do what, and who really reaches whom there.

Everything lies in namespaces of its own, named anew each time: a Sevenfold that is installed is not touched.
Needs kubectl, a kubeconfig that may create namespaces and impersonate; and for the network an image with
Python (SEVENFOLD_PROBE_IMAGE, else the testbed's) and a network plugin that enforces NetworkPolicies.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from tests.kubernetes.cluster import MARK, Cluster
from tests.kubernetes.place import Images
from tests.manifests.reachability import End, Network
from tests.manifests.rendered import Resource, of_kind, overlay, overlay_text, read
from tests.manifests.rights import Right, rights
from tests.manifests.test_reachability import OUTSIDE, ends

IMAGES = Images.given()
IMAGE = os.environ.get("SEVENFOLD_PROBE_IMAGE") or IMAGES["testbed"]
PORTS = (5000, 5432, 8000, 8001, 8002, 8080, 9000)
POLICIES = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"} | {
    "ConfigMap",
    "LimitRange",
    "ResourceQuota",
}
"""What is really made; of everything else the API server is only asked whether it would take it."""
ANSWER = f"""
import socket, selectors
ports = selectors.DefaultSelector()
for port in {PORTS}:
    ports.register(socket.create_server(("0.0.0.0", port)), selectors.EVENT_READ)
print("listens", flush=True)
while True:
    for key, _ in ports.select():
        key.fileobj.accept()[0].close()
"""
ASK = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def opens(target):
    for _ in range(2):
        try:
            socket.create_connection(tuple(target), 1.5).close()
            return True
        except OSError:
            pass
    return False
targets = json.load(sys.stdin)
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(opens, targets))))
"""


def kubectl(*words: str, given: str = "", limit: float = 120, check: bool = True) -> str:
    done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, timeout=limit)
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Installed:
    """An overlay in namespaces that are called `<name>-...` instead of `sevenfold-...`."""

    name: str

    def renamed(self, text: str) -> str:
        spaces = "|".join(
            one["metadata"]["name"][10:] for one in of_kind(overlay("laptop-kind"), "Namespace")
        )
        return re.sub(rf"\bsevenfold-({spaces})\b(?!-)", rf"{self.name}-\1", text)

    def resources(self, overlay_name: str = "laptop-kind") -> list[Resource]:
        resources = read(self.renamed(overlay_text(overlay_name)))
        for volume in of_kind(resources, "PersistentVolume"):  # they belong to no namespace
            volume["metadata"]["name"] = f"{self.name}-{volume['metadata']['name']}"
        return resources


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    """Namespaces, rights and policies of laptop-kind, and their end."""
    if not shutil.which("kubectl"):
        pytest.skip("there is no kubectl on PATH")
    here = Installed(f"manifests-{secrets.token_hex(3)}")
    made = [one for one in here.resources() if one["kind"] in POLICIES]
    made.sort(key=lambda one: one["kind"] != "Namespace")
    for priority in of_kind(here.resources(), "PriorityClass"):
        cluster.make(priority)
    for space in of_kind(made, "Namespace"):
        space["metadata"].setdefault("labels", {}).update(MARK)
        cluster.namespaces.append(space["metadata"]["name"])
    print(f"\n{len(made)} objects of laptop-kind as {here.name}-...", flush=True)
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=yaml.safe_dump_all(made))
        yield here
    finally:  # they go while other tests begin; `cluster` waits for their end
        mine = [name for name in cluster.namespaces if name.startswith(f"{here.name}-")]
        kubectl("delete", "namespace", "--wait=false", "--ignore-not-found", *mine, check=False)


@pytest.mark.parametrize("name", ["laptop-kind", "staging-like", "production"])
def test_the_api_server_takes_every_object(installed: Installed, name: str) -> None:
    groups = kubectl("api-versions").split()
    told = [one for one in installed.resources(name) if one["apiVersion"] in groups]
    assert len(told) > 190
    apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    kubectl(*apply, given=yaml.safe_dump_all(of_kind(told, "ResourceQuota")))  # another overlay's are smaller
    said = kubectl(*apply, "--dry-run=server", given=yaml.safe_dump_all(told))
    assert len(re.findall(r"serverside-applied \(server dry run\)", said)) == len(told)
    assert "Warning" not in said, "for instance that a pod would violate PodSecurity"


def test_the_cluster_gives_the_rights_of_the_matrix_and_no_others(installed: Installed) -> None:
    resources = installed.resources()
    spaces = [one["metadata"]["name"] for one in of_kind(resources, "Namespace")]
    accounts = [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in of_kind(resources, "ServiceAccount")
    ]
    accounts += [f"{space}/default" for space in spaces]
    assert len(accounts) >= 29
    usual = {space: _rules(f"{space}/nobody-of-this-name", [space])[space] for space in spaces}
    found: set[Right] = {
        (account, space, resource, verb)
        for account in accounts
        for space, told in _rules(account, spaces).items()
        for resource, verb in told - usual[space]
    }
    assert found == rights(resources)


def test_a_right_that_somebody_gives_by_hand_is_noticed(installed: Installed) -> None:
    space = f"{installed.name}-training"
    before = _rules(f"{space}/training", [space])[space]
    given = ("create", "rolebinding", "by-hand", "-n", space, "--role=launcher")
    kubectl(*given, f"--serviceaccount={space}:training")
    try:
        assert ("/pods", "create") in _rules(f"{space}/training", [space])[space] - before
    finally:
        kubectl("delete", "rolebinding", "by-hand", "-n", space)


def _rules(account: str, spaces: list[str]) -> dict[str, set[tuple[str, str]]]:
    """What the API server says that an account may do in each namespace: resources with verbs."""
    from kubernetes import client, config

    own, _, name = account.partition("/")
    asking = config.new_client_from_config()
    asking.set_default_header("Impersonate-User", f"system:serviceaccount:{own}:{name}")
    api = client.AuthorizationV1Api(asking)
    told = {}
    for space in spaces:
        review = client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(namespace=space))
        status = api.create_self_subject_rules_review(review).status
        assert not status.evaluation_error
        told[space] = {
            (f"{group}/{resource}", verb)
            for rule in status.resource_rules
            for group in rule.api_groups or [""]
            for resource in rule.resources or []
            for verb in rule.verbs
        }
    return told


def test_pods_that_are_not_restricted_are_refused_everywhere(installed: Installed) -> None:
    for namespace in of_kind(installed.resources(), "Namespace"):
        pod = _pod("bad", namespace["metadata"]["name"], {})
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        said = kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod), check=False)
        assert 'violates PodSecurity "restricted' in said


def test_no_training_gets_the_priority_of_a_release(installed: Installed) -> None:
    pod = _pod("urgent", f"{installed.name}-training", {})
    pod["spec"]["priorityClassName"] = "sevenfold-release"
    said = kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod), check=False)
    assert "exceeded quota: batch-only" in said
    pod["spec"]["priorityClassName"] = "sevenfold-batch"
    assert "created" in kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))


def test_who_reaches_whom_is_what_the_policies_say(installed: Installed, cluster: Cluster) -> None:
    there = {name: end for name, end in ends(overlay("laptop-kind")).items() if not end.address}
    there = {name: end for name, end in there.items() if name not in ("dns", "prometheus")}
    cluster.namespaces += [f"{installed.name}-{name}" for name in there.keys() & OUTSIDE.keys()]
    print(f"{len(there)} pods try {len(PORTS)} ports of each other", flush=True)
    addresses = _probes(installed, there)
    network = Network(of_kind(overlay("laptop-kind"), "NetworkPolicy"))
    pairs = [(one, other, port) for one in there for other in there if one != other for port in PORTS]
    expected = {pair for pair in pairs if network.reaches(there[pair[0]], there[pair[1]], pair[2])}
    with ThreadPoolExecutor(4) as pool:
        reached = set().union(*pool.map(lambda one: _reached(installed, one, there, addresses), there))
    if reached == set(pairs):
        pytest.skip("the network plugin of this cluster enforces no NetworkPolicy")
    assert {
        ("production/gateway", "production/server", 8080),
        ("caller", "production/gateway", 8000),
    } <= reached
    assert _told(reached - expected) == [], "possible, and not allowed"
    assert _told(expected - reached) == [], "allowed, and not possible"


def _told(edges: set[tuple[str, str, int]]) -> list[str]:
    return sorted(f"{one} -> {other}:{port}" for one, other, port in edges)


def _place(installed: Installed, name: str, end: End) -> tuple[str, str]:
    """Namespace and name of the pod that stands for an end."""
    pod = re.sub(r"[^a-z0-9]+", "-", f"probe-{name}")
    if name in OUTSIDE:
        return f"{installed.name}-{name}", pod
    return installed.renamed(end.namespace), pod


def _probes(installed: Installed, there: dict[str, End]) -> dict[str, str]:
    """Starts a pod with the labels of each end that listens on every port; returns their addresses."""
    mine = {"sevenfold.io/probe": installed.name}
    made: list[Resource] = []
    for name in there.keys() & OUTSIDE.keys():
        labels = {
            label: said for label, said in there[name].space.items() if label.startswith("sevenfold.io/")
        }
        metadata = {"name": f"{installed.name}-{name}", "labels": labels | mine | MARK}
        made.append({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    names = {}
    for name, end in there.items():
        namespace, pod = _place(installed, name, end)
        names[pod] = name
        made.append(_pod(pod, namespace, {**end.labels, **mine}))
    kubectl("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(made))
    selected = ("--all-namespaces", "--selector", f"sevenfold.io/probe={installed.name}", "--output", "json")
    until = time.monotonic() + 300
    while True:
        pods = json.loads(kubectl("get", "pods", *selected))["items"]
        states = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
        if any("Image" in one["state"].get("waiting", {}).get("reason", "") for one in states):
            pytest.skip(f"the cluster has no image {IMAGE}: set SEVENFOLD_PROBE_IMAGE")
        running = [one for one in pods if one["status"]["phase"] == "Running"]
        addresses = {names[one["metadata"]["name"]]: one["status"]["podIP"] for one in running}
        if len(addresses) == len(there):
            time.sleep(3)  # until the network plugin knows the last of them, and it listens
            return addresses
        assert time.monotonic() < until, f"not running: {sorted(there.keys() - addresses.keys())}"
        time.sleep(2)


def _reached(
    installed: Installed, name: str, there: dict[str, End], addresses: dict[str, str]
) -> set[tuple[str, str, int]]:
    """Which ports of which ends a pod can open."""
    namespace, pod = _place(installed, name, there[name])
    asked = [(other, port) for other in there if other != name for port in PORTS]
    targets = json.dumps([(addresses[other], port) for other, port in asked])
    said = kubectl("exec", "-i", "-n", namespace, pod, "--", "python3", "-c", ASK, given=targets, limit=180)
    opened = json.loads(said.strip().splitlines()[-1])
    return {(name, other, port) for (other, port), one in zip(asked, opened, strict=True) if one}


def _pod(name: str, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": IMAGE,
                    "imagePullPolicy": IMAGES.pull_policy,
                    "command": ["python3", "-c", ANSWER],
                    "resources": {
                        "requests": {"cpu": "5m", "memory": "16Mi"},
                        "limits": {"memory": "128Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
