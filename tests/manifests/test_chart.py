"""What the official chart makes of our values, really rendered by Helm, over the overlays for it."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from typing import Any

import pytest
from tests.manifests.chart import EXECUTOR, NAMESPACE, VERSION, chart, configuration, overlay_for_the_chart
from tests.manifests.openapi import mistakes
from tests.manifests.rendered import KUBERNETES, Resource, named, of_kind, pods, read
from tests.manifests.rights import matrix, rights
from tests.manifests.test_airflow import settings_of_the_component
from tests.manifests.test_objects import dangling, dangling_of, objects
from tests.manifests.test_reachability import allowed, graph
from tests.manifests.test_rights import MATRIX
from tests.pod_security import unrestricted

from sevenfold.kubernetes import images

CLUSTERS = ("staging-like", "production")
TASK = f"Pod {NAMESPACE}/task"
WITH_TOKEN = {"airflow-scheduler", "airflow-worker", "airflow-triggerer"}


@pytest.fixture(params=CLUSTERS)
def made(request: pytest.FixtureRequest) -> list[Resource]:
    return chart(request.param)


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> list[Resource]:
    """All that is on a cluster then."""
    return [*overlay_for_the_chart(request.param), *chart(request.param)]


def airflow(made: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Each pod of the chart, those of tasks included."""
    yield from pods(made)
    [task] = of_kind(made, "Pod")
    yield TASK, task


def containers(pod: Resource) -> list[dict[str, Any]]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def test_the_chart_is_the_one_that_is_named(made: list[Resource]) -> None:
    labels = {one["metadata"]["labels"]["chart"] for one in of_kind(made, "Deployment")}
    assert labels == {f"airflow-{VERSION}"}
    assert f"--version {VERSION}" in (KUBERNETES / "airflow" / "values.yaml").read_text()


def test_every_object_is_one_that_the_api_takes(made: list[Resource]) -> None:
    assert len(made) >= 11
    assert not {named(one): wrong for one in made if (wrong := mistakes(one))}


def test_every_pod_keeps_the_restricted_standard_and_says_what_it_uses(made: list[Resource]) -> None:
    found = dict(airflow(made))
    assert len(found) == 6
    assert not {name: why for name, pod in found.items() if (why := unrestricted(pod))}
    for name, pod in found.items():
        assert pod["spec"]["enableServiceLinks"] is False, name
        assert pod["spec"]["priorityClassName"] == "sevenfold-release", name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, name
            assert container["resources"]["limits"]["memory"], name


def test_every_container_is_our_image(made: list[Resource]) -> None:
    ours = images.read(KUBERNETES / "images" / "kustomization.yaml")["airflow"]
    assert {
        container["image"].removeprefix("docker.io/")
        for _, pod in airflow(made)
        for container in containers(pod)
    } == {ours.removeprefix("docker.io/")}


def test_names_refer_to_what_is_there(cluster: list[Resource]) -> None:
    # a folder for the component's logs, which nobody claims: the chart's are on object storage
    claim = ("PersistentVolumeClaim", NAMESPACE, "airflow-logs")
    assert dangling(cluster) == [f"PersistentVolume -/sevenfold-airflow-logs: no {claim}"]
    there = objects(cluster)
    assert not [lost for name, pod in airflow(cluster) for lost in dangling_of(name, pod, there)]


def test_no_object_is_there_twice(cluster: list[Resource]) -> None:
    names = [named(one) for one in cluster]
    assert len(names) == len(set(names))


def test_the_chart_makes_no_secret_and_writes_no_password(made: list[Resource]) -> None:
    assert not of_kind(made, "Secret")
    assert "postgres:postgres" not in str(made)
    given = {
        variable["name"]: variable
        for _, pod in airflow(made)
        for container in containers(pod)
        for variable in container.get("env", [])
    }
    assert not [name for name, one in given.items() if "valueFrom" in one]
    assert not [
        name for name in given if "SQL_ALCHEMY" in name or "SECRET" in name.replace("SEVENFOLD_SECRETS", "")
    ]
    for name, pod in airflow(made):
        for container in containers(pod):
            taken = [one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one]
            assert taken == ["airflow", "sevenfold"], name


def test_the_rights_are_those_of_the_other_airflow_and_a_scheduler_that_starts_tasks(
    cluster: list[Resource],
) -> None:
    found, wanted = rights(cluster), matrix(f"{MATRIX}\n{EXECUTOR}")
    assert found - wanted == set(), "given, and not in the matrix"
    assert wanted - found == set(), "in the matrix, and not given"
    assert not of_kind(cluster, "ClusterRole", "ClusterRoleBinding")
    accounts = {
        one["metadata"]["name"]
        for one in of_kind(cluster, "ServiceAccount")
        if one["metadata"]["namespace"] == NAMESPACE and one["automountServiceAccountToken"]
    }
    assert accounts == WITH_TOKEN


def test_a_role_of_the_chart_would_be_noticed() -> None:
    made = chart("production", "--set", "rbac.create=true")
    more = rights([*overlay_for_the_chart("production"), *made]) - matrix(f"{MATRIX}\n{EXECUTOR}")
    assert ("sevenfold-airflow/airflow-worker", "sevenfold-airflow", "/pods/exec", "create") in more


def test_the_graph_is_the_list_and_the_logs_of_triggerers() -> None:
    cluster = [*overlay_for_the_chart("production"), *chart("production")]
    wanted = {edge.replace("airflow/migrate ", "airflow/run-airflow-migrations ") for edge in allowed()}
    wanted |= {"airflow/api-server -> airflow/triggerer:8794"}
    wanted |= {"training/node -> training/node-of-the-same-job:8794"}  # which reach one another at any port
    found = graph(cluster)
    assert found - wanted == set(), "possible, and not allowed"
    assert wanted - found == set(), "allowed, and not possible"


def test_the_pod_of_a_task_may_talk_as_a_worker(made: list[Resource]) -> None:
    """The policies know workers by labels of the chart."""
    [task] = of_kind(made, "Pod")
    assert {"tier": "airflow", "component": "worker"}.items() <= task["metadata"]["labels"].items()
    assert task["spec"]["serviceAccountName"] == "airflow-worker"
    assert {volume["name"] for volume in task["spec"]["volumes"]} >= {"scratch", "images", "secrets", "logs"}


def test_the_services_are_those_that_others_ask_for(cluster: list[Resource]) -> None:
    [service] = [
        one for one in of_kind(cluster, "Service") if one["metadata"]["name"] == "airflow-api-server"
    ]
    assert service["spec"]["ports"] == [{"name": "api-server", "port": 8080}]
    [selected] = [
        pod
        for _, pod in pods(cluster)
        if pod["metadata"]["namespace"] == NAMESPACE
        and service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ]
    [container] = selected["spec"]["containers"]
    assert container["ports"] == [{"name": "api-server", "containerPort": 8080}]


def test_airflow_is_told_what_the_other_airflow_is_told(made: list[Resource]) -> None:
    told = configparser.RawConfigParser()
    told.read_string(configuration(made)["airflow.cfg"])
    assert told["core"]["executor"] == "KubernetesExecutor"
    assert told["core"]["dags_folder"] == "/opt/sevenfold/dags"
    assert told["logging"]["remote_logging"] == "True"
    assert told["logging"]["remote_base_log_folder"].startswith("s3://")
    other = {
        name.removeprefix("AIRFLOW__").lower().replace("__", ".", 1): value
        for name, value in settings_of_the_component().items()
        if name.startswith("AIRFLOW__")
    }
    same = [name for name in other if told.has_option(*name.split(".", 1)) and name != "core.executor"]
    assert {"core.simple_auth_manager_users", "core.execution_api_server_url", "core.load_examples"} <= set(
        same
    )
    assert {name: told.get(*name.split(".", 1)) for name in same} == {name: other[name] for name in same}
    for pod in dict(airflow(made)).values():
        for container in containers(pod):
            variables = {one["name"]: one["value"] for one in container["env"]}
            assert (
                variables["AIRFLOW_CONN_KUBERNETES_DEFAULT"]
                == settings_of_the_component()["AIRFLOW_CONN_KUBERNETES_DEFAULT"]
            )


def test_a_crowded_node_has_minutes_to_start_it(made: list[Resource]) -> None:
    for name, pod in pods(made):
        for container in pod["spec"]["containers"]:
            if probe := container.get("startupProbe"):
                assert probe["failureThreshold"] * probe["periodSeconds"] >= 300, name
        for container in pod["spec"].get("initContainers", []):
            assert "--migration-wait-timeout=600" in container["args"], name


def test_dags_may_come_from_git_instead() -> None:
    git = KUBERNETES / "airflow" / "git"
    made = chart("production", "--values", str(git / "values.yaml"))
    told = configparser.RawConfigParser()
    told.read_string(configuration(made)["airflow.cfg"])
    assert told["core"]["dags_folder"] == "/opt/airflow/dags/repo/dags"
    fetching = set()
    for name, pod in airflow(made):
        assert not unrestricted(pod), name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["limits"]["memory"], name
            if container["name"].startswith("git-sync"):
                fetching.add(pod["metadata"]["labels"]["component"])
    [policy] = read((git / "network.yaml").read_text())
    assert not mistakes(policy)
    assert set(policy["spec"]["podSelector"]["matchExpressions"][0]["values"]) == fetching
