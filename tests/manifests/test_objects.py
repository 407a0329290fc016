"""Every object of every overlay: known to the API, restricted, and naming only what is there."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from tests.manifests.openapi import mistakes, model_of
from tests.manifests.rendered import (
    KUBERNETES,
    OVERLAYS,
    Resource,
    named,
    of_kind,
    overlay,
    overlay_text,
    pods,
    read,
)
from tests.pod_security import unrestricted

from sevenfold.environments import ENVIRONMENTS
from sevenfold.kubernetes.secret_files import AIRFLOW, secret_files
from sevenfold.security import leaks

NAMESPACES = {*(f"sevenfold-{environment}" for environment in ENVIRONMENTS), "sevenfold-airflow"}


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return overlay(request.param)


def test_every_object_is_one_that_the_api_takes(resources: list[Resource]) -> None:
    ours = [one for one in resources if model_of(one["apiVersion"], one["kind"])]
    assert len(ours) > 150
    found = {named(one): wrong for one in ours if (wrong := mistakes(one))}
    assert not found
    custom = {one["apiVersion"] for one in resources if one not in ours}
    assert custom <= {"monitoring.coreos.com/v1", "external-secrets.io/v1"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda pod: pod.update(restartPolcy="Never"), "restartPolcy: no such field"),
        (lambda pod: pod["containers"][0].pop("name"), "`name`, must not be `None`"),
        (lambda pod: pod["containers"][0]["ports"][0].update(containerPort="80"), "not of type int"),
        (lambda pod: pod.update(containers={}), "not a list"),
        (lambda pod: pod["securityContext"].update(runAsNonRoot="true"), "not of type bool"),
        (lambda pod: pod["securityContext"].update(runAsUser=True), "not of type int"),
        (lambda pod: pod.update(volumes=[None]), "is empty"),
    ],
)
def test_what_the_api_would_not_take_is_noticed(change: Any, sentence: str) -> None:
    gateway = next(
        one for one in of_kind(overlay("production"), "Deployment") if one["metadata"]["name"] == "gateway"
    )
    assert not mistakes(gateway)
    change(gateway["spec"]["template"]["spec"])
    assert sentence in " ".join(mistakes(gateway))


def test_no_object_is_there_twice_or_without_a_namespace_of_ours(resources: list[Resource]) -> None:
    counted = Counter(named(one) for one in resources)
    assert not [name for name, count in counted.items() if count > 1]
    here = {one["metadata"]["name"] for one in of_kind(resources, "Namespace")}
    assert here >= NAMESPACES
    everywhere = {"Namespace", "PriorityClass", "PersistentVolume"}
    strays = [
        named(one)
        for one in resources
        if one["kind"] not in everywhere and one["metadata"].get("namespace") not in here
    ]
    assert not strays


def test_every_namespace_enforces_the_restricted_standard_and_denies_by_default(
    resources: list[Resource],
) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    for namespace in of_kind(resources, "Namespace"):
        name = namespace["metadata"]["name"]
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted", name
        denies = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        assert denies in [one["spec"] for one in policies if one["metadata"]["namespace"] == name], name


def test_every_pod_keeps_the_restricted_standard(resources: list[Resource]) -> None:
    made = dict(pods(resources))
    assert len(made) >= 11
    assert not {name: found for name, pod in made.items() if (found := unrestricted(pod))}


def test_every_pod_says_what_it_uses_and_writes_to_no_root(resources: list[Resource]) -> None:
    for name, pod in pods(resources):
        assert pod["spec"]["automountServiceAccountToken"] is (
            pod["spec"].get("serviceAccountName") in WITH_TOKEN
        ), name
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, name
            assert container["resources"]["limits"]["memory"], name
            assert container["imagePullPolicy"] == "IfNotPresent", "as settings.yaml says"


WITH_TOKEN = {"gateway", "reconciler", "promoter", "watchman", "airflow-worker", "airflow-triggerer"}
"""Accounts whose pods ask the cluster for something."""


def test_names_refer_to_what_is_there(resources: list[Resource]) -> None:
    assert not dangling(resources)


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        ("serviceAccountName: gateway", "serviceAccountName: gatway"),
        ("priorityClassName: sevenfold-serving", "priorityClassName: serving"),
        ("claimName: sevenfold-logs", "claimName: logs"),
        ("secretName: sevenfold-files", "secretName: sevenfold-keys"),
        ("name: sevenfold-owner", "name: sevenfold-root"),
        ("key: signing.pem", "key: private.pem"),
        ("configMap:\n          name: sevenfold-images", "configMap:\n          name: images"),
        ("kind: Role\n  name: launcher", "kind: Role\n  name: lunch"),
        (
            "name: airflow-triggerer\n  namespace: sevenfold-airflow",
            "name: airflow-trigger\n  namespace: sevenfold-airflow",
        ),
    ],
)
def test_a_name_that_refers_to_nothing_is_noticed(place: str, instead: str) -> None:
    text = overlay_text("production")
    assert place in text
    assert dangling(read(text.replace(place, instead)))


@cache
def secrets() -> dict[tuple[str, str], set[str]]:
    """The secrets that are documented, or made by `secret-files`: namespace and name -> keys."""
    document = yaml.safe_load((KUBERNETES / "secrets.example.yaml").read_text())
    found = {
        (space, name): set(told["keys"]) for name, told in document.items() for space in told["namespaces"]
    }
    with TemporaryDirectory() as folder:
        for of in (*ENVIRONMENTS, AIRFLOW):
            made = secret_files(Path(folder), of)
            place = made["metadata"]["namespace"], made["metadata"]["name"]
            assert found[place] >= made["data"].keys(), "secret-files makes what is not documented"
            found[place] = set(made["data"])  # the document says in words which key is where
    return found


def dangling(resources: list[Resource]) -> list[str]:
    """Names of accounts, priorities, claims, config maps, secrets, roles and volumes that lead nowhere."""
    there = objects(resources)
    found = [lost for where, pod in pods(resources) for lost in dangling_of(where, pod, there)]
    wanted = []
    for binding in of_kind(resources, "RoleBinding"):
        namespace, role = binding["metadata"]["namespace"], binding["roleRef"]
        wanted.append((named(binding), (role["kind"], namespace, role["name"])))
        subjects = [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]]
        wanted += [(named(binding), subject) for subject in subjects]
    for volume in of_kind(resources, "PersistentVolume"):
        claim = volume["spec"]["claimRef"]
        wanted.append((named(volume), ("PersistentVolumeClaim", claim["namespace"], claim["name"])))
    return found + [f"{where}: no {one}" for where, one in wanted if one not in there]


def objects(resources: list[Resource]) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of each object."""
    return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in resources}


def dangling_of(where: str, pod: Resource, there: set[tuple[str, str, str]]) -> list[str]:
    """Names in a pod that lead nowhere, where `there` are all objects."""
    documented = secrets()
    namespace = pod["metadata"]["namespace"]
    wanted = [(kind, space, name) for kind, space, name in _named_by(pod["spec"], namespace)]
    found = [f"{where}: no {one}" for one in wanted if one not in there]
    for name, keys in _secrets_of(pod["spec"]):
        if not keys <= documented.get((namespace, name), {"-"}) or (namespace, name) not in documented:
            found.append(f"{where}: Secret {namespace}/{name} with {sorted(keys)} is not documented")
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    for container in _containers(pod["spec"]):
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        found += [f"{where}: no volume {name}" for name in mounts - volumes]
    return found


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def _named_by(spec: dict[str, Any], namespace: str) -> Iterator[tuple[str, str, str]]:
    """Kind, namespace and name of what a pod names, secrets apart."""
    if account := spec.get("serviceAccountName"):
        yield "ServiceAccount", namespace, account
    if priority := spec.get("priorityClassName"):
        yield "PriorityClass", "", priority
    for volume in spec.get("volumes", []):
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", namespace, claim["claimName"]
        if given := volume.get("configMap"):
            yield "ConfigMap", namespace, given["name"]
    for container in _containers(spec):
        for given in container.get("envFrom", []):
            if "configMapRef" in given:
                yield "ConfigMap", namespace, given["configMapRef"]["name"]


def _secrets_of(spec: dict[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Secrets that a pod names, with the keys of which it says that it needs them."""
    for volume in spec.get("volumes", []):
        if given := volume.get("secret"):
            yield given["secretName"], {item["key"] for item in given.get("items", [])}
        for source in volume.get("projected", {}).get("sources", []):
            if given := source.get("secret"):
                yield given["name"], {item["key"] for item in given.get("items", [])}
    for container in _containers(spec):
        for given in container.get("envFrom", []):
            if "secretRef" in given:
                yield given["secretRef"]["name"], set()
        for variable in container.get("env", []):
            if key := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield key["name"], {key["key"]}


def test_every_claim_that_waits_for_a_volume_gets_one(resources: list[Resource]) -> None:
    volumes = {
        (one["spec"]["claimRef"]["namespace"], one["spec"]["claimRef"]["name"]): one["spec"]
        for one in of_kind(resources, "PersistentVolume")
    }
    waiting = [
        one
        for one in of_kind(resources, "PersistentVolumeClaim")
        if one["spec"].get("storageClassName") == ""
    ]
    assert len(waiting) == 12
    for claim in waiting:
        volume = volumes[claim["metadata"]["namespace"], claim["metadata"]["name"]]
        assert claim["spec"]["accessModes"] == volume["accessModes"]
        asked, given = claim["spec"]["resources"]["requests"]["storage"], volume["capacity"]["storage"]
        assert int(asked.removesuffix("Gi")) <= int(given.removesuffix("Gi"))


def test_no_folder_is_shared_across_the_line_that_training_must_not_cross(resources: list[Resource]) -> None:
    folders: dict[str, set[str]] = {}
    for volume in of_kind(resources, "PersistentVolume"):
        place = (volume["spec"].get("local") or volume["spec"].get("nfs"))["path"]
        folders.setdefault(place, set()).add(volume["spec"]["claimRef"]["namespace"])
    before = {f"sevenfold-{environment}" for environment in ("development", "training", "testing")}
    assert before in folders.values()
    assert not [shared for shared in folders.values() if shared & before and shared - before]


def test_no_secret_is_an_object_of_ours(resources: list[Resource]) -> None:
    assert not of_kind(resources, "Secret")


def test_nothing_here_looks_like_a_secret(tmp_path: Path) -> None:
    """Manifests are part of the code: in preproduction every candidate would be refused for it."""
    there = tmp_path / "include" / "kubernetes"
    shutil.copytree(KUBERNETES, there)
    found = leaks.in_code(tmp_path)
    assert found.looked_at > 60
    assert not found.problems
    (there / "airflow" / "values.yaml").write_text("password: tr0ub4dor&3\n")
    assert leaks.in_code(tmp_path).problems == (
        "include/kubernetes/airflow/values.yaml, line 1: Secret Keyword",
    )
