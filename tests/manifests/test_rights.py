"""Who may do what in which namespace: what Roles and bindings give equals the matrix written here."""

from __future__ import annotations

from typing import Any

import pytest
from tests.manifests.rendered import OVERLAYS, Resource, of_kind, overlay, pods
from tests.manifests.rights import matrix, rights

from sevenfold.environments import ENVIRONMENTS

ALL = " ".join(ENVIRONMENTS)
LAUNCHERS = "airflow/airflow-worker airflow/airflow-triggerer"
DEPLOYERS = "staging/staging preproduction/preproduction preproduction/promoter production/promoter"
FINDERS = "production/production preproduction/promoter monitoring/watchman"
GATEWAYS = "staging/gateway preproduction/gateway production/gateway"
MATRIX = f"""
# account | namespace | resources | verbs
{LAUNCHERS} | {ALL} | /pods batch/jobs | create get list watch patch delete
{LAUNCHERS} | {ALL} | /pods/log | get
{LAUNCHERS} | {ALL} | /events | get list watch

{DEPLOYERS} | own | apps/deployments /services | get list create patch delete
{DEPLOYERS} | own | policy/poddisruptionbudgets | get list create patch delete
{DEPLOYERS} | own | autoscaling/horizontalpodautoscalers | get list create patch delete
{DEPLOYERS} | own | apps/deployments/scale | get patch
{DEPLOYERS} | own | /pods | get list
{DEPLOYERS} | own | discovery.k8s.io/endpointslices | get list

{GATEWAYS} | own | discovery.k8s.io/endpointslices | get list watch
production/gateway | preproduction | discovery.k8s.io/endpointslices | get list watch  # the mirror

production/reconciler | own | apps/deployments | get list patch delete
production/reconciler | own | apps/deployments/scale | get patch
production/reconciler | own | /pods discovery.k8s.io/endpointslices | get list

{FINDERS} | production | apps/deployments | get list
{FINDERS} | production | discovery.k8s.io/endpointslices | get list
"""
"""Whoever is not in it may do nothing: development, training, testing, monitoring, every `server`, MLflow."""


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return overlay(request.param)


def test_the_rights_are_the_matrix(resources: list[Resource]) -> None:
    found, wanted = rights(resources), matrix(MATRIX)
    assert found - wanted == set(), "given, and not in the matrix"
    assert wanted - found == set(), "in the matrix, and not given"


def test_nothing_is_given_for_the_whole_cluster(resources: list[Resource]) -> None:
    assert not of_kind(resources, "ClusterRole", "ClusterRoleBinding")
    rules = [rule for role in of_kind(resources, "Role") for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]]
    assert not [
        rule for rule in rules if {"secrets", "pods/exec", "serviceaccounts/token"} & set(rule["resources"])
    ]


def test_who_changes_what_serves_production_lives_there(resources: list[Resource]) -> None:
    changes = {"create", "patch", "update", "delete"}
    serving = {
        "apps/deployments",
        "apps/deployments/scale",
        "/services",
        "autoscaling/horizontalpodautoscalers",
    }
    who = {
        account
        for account, namespace, resource, verb in rights(resources)
        if namespace == "sevenfold-production" and resource in serving and verb in changes
    }
    assert who == {"sevenfold-production/promoter", "sevenfold-production/reconciler"}


def test_a_token_is_mounted_only_by_who_has_a_right(resources: list[Resource]) -> None:
    accounts = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}": one.get("automountServiceAccountToken")
        for one in of_kind(resources, "ServiceAccount")
    }
    assert len(accounts) >= 7 + 2 + 2 * 3 + 2 + 3
    launchers = {f"sevenfold-{account}" for account in LAUNCHERS.split()}
    assert {name for name, mounts in accounts.items() if mounts is not False} == launchers
    able = {account for account, *_ in rights(resources)}
    for name, pod in pods(resources):
        account = f"{pod['metadata']['namespace']}/{pod['spec'].get('serviceAccountName', 'default')}"
        assert pod["spec"]["automountServiceAccountToken"] is (account in able), name


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("Role", "launcher", lambda role: role["rules"][0]["verbs"].append("deletecollection")),
        ("Role", "launcher", lambda role: role["rules"][0]["resources"].append("pods/exec")),
        ("Role", "deployer", lambda role: role["rules"].pop()),
        ("RoleBinding", "airflow-launches", lambda binding: binding["subjects"].pop()),
        (
            "RoleBinding",
            "production-deploys",
            lambda binding: binding["subjects"][0].update(name="training", namespace="sevenfold-training"),
        ),
    ],
)
def test_a_right_too_many_or_too_few_is_noticed(kind: str, name: str, change: Any) -> None:
    resources = overlay("production")
    change(next(one for one in of_kind(resources, kind) if one["metadata"]["name"] == name))
    assert rights(resources) != matrix(MATRIX)
