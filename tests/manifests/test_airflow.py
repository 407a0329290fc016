"""Airflow on a cluster: the chart's values and the component say the same, and Airflow knows it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from airflow.configuration import conf
from airflow.sdk import Connection
from tests.manifests.chart import EXECUTOR, NAMESPACE, overlay_for_the_chart
from tests.manifests.reachability import End, Network
from tests.manifests.rendered import KUBERNETES, OVERLAYS, Resource, of_kind, overlay
from tests.manifests.rights import matrix, rights
from tests.manifests.test_objects import secrets
from tests.manifests.test_rights import MATRIX

from sevenfold_airflow.pod import PodSettings
from sevenfold_airflow.rail import EVERY_SLOT, POOL


def values() -> dict[str, Any]:
    """What we tell the chart."""
    told: dict[str, Any] = yaml.safe_load((KUBERNETES / "airflow" / "values.yaml").read_text())
    return told


def settings_of_the_component() -> dict[str, str]:
    """The ConfigMap of the component airflow."""
    named = (
        one for one in of_kind(overlay("production"), "ConfigMap") if one["metadata"]["name"] == "airflow"
    )
    data: dict[str, str] = next(named)["data"]
    return data


def variables_of_the_chart() -> dict[str, str]:
    """What the chart's values make of Airflow's settings, as variables."""
    given = values()
    told = {one["name"]: one["value"] for one in given["env"]}
    for section, options in given["config"].items():
        told |= {f"AIRFLOW__{section}__{option}".upper(): value for option, value in options.items()}
    return told


@pytest.mark.parametrize("told", [settings_of_the_component, variables_of_the_chart])
def test_a_dag_whose_import_takes_a_minute_or_two_is_there_all_the_same(told: Any) -> None:
    """On a crowded node it took 45 s; Airflow's own 30 s would take the DAG away until the next interval."""
    said = told()
    importing = float(said["AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT"])
    whole = float(said["AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT"])
    assert 120 <= importing < whole < float(said["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"])


@pytest.mark.parametrize("told", [settings_of_the_component, variables_of_the_chart])
def test_airflow_knows_every_setting(told: Any) -> None:
    known = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, described in conf.configuration_description.items()
        for option in described["options"]
    }
    ours = {name for name in told() if name.startswith("AIRFLOW__")}
    assert len(ours) >= 10
    assert ours <= known
    assert "AIRFLOW__CORE__DAG_FOLDER" not in known  # and a misspelt one would be noticed


@pytest.mark.parametrize("told", [settings_of_the_component, variables_of_the_chart])
def test_the_connection_is_one_that_the_operator_understands(told: Any) -> None:
    connection = Connection.from_json(told()["AIRFLOW_CONN_KUBERNETES_DEFAULT"], conn_id="kubernetes_default")
    assert connection.conn_type == "kubernetes"
    extra = connection.extra_dejson
    assert extra["in_cluster"] is True
    settings = PodSettings.of(extra)
    assert (settings.runtime, settings.deferrable) == ("kubernetes", True)


def test_the_pool_counts_activities_that_are_waited_for_in_the_triggerer() -> None:
    """Deferred tasks do not count by themselves: on a real cluster all ran beside what measures time."""
    migrate = "airflow-migrate"
    told = {
        name: next(one for one in of_kind(overlay(name), "Job") if one["metadata"]["name"] == migrate)
        for name in ("laptop-kind", "production")
    }
    said = {name: job["spec"]["template"]["spec"]["containers"][0]["command"] for name, job in told.items()}
    said["chart"] = values()["migrateDatabaseJob"]["args"]
    slots = {
        name: re.search(rf"pools set --include-deferred {POOL} (\d+) ", words[-1])
        for name, words in said.items()
    }
    assert all(slots.values()), said
    assert int(slots["laptop-kind"][1]) == EVERY_SLOT, "on one node what measures time runs alone"  # type: ignore[index]


def test_both_ways_say_the_same_where_it_matters() -> None:
    component, chart = settings_of_the_component(), variables_of_the_chart()
    same = {name for name in component.keys() & chart.keys()}
    assert {"AIRFLOW_CONN_KUBERNETES_DEFAULT", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"} <= same
    assert {name: component[name] for name in same} == {name: chart[name] for name in same}


def test_the_chart_runs_under_the_accounts_of_the_overlay() -> None:
    given, resources = values(), overlay_for_the_chart("production")
    there = {
        one["metadata"]["name"]
        for one in of_kind(resources, "ServiceAccount")
        if one["metadata"]["namespace"] == "sevenfold-airflow"
    }
    parts = ("workers", "scheduler", "triggerer", "dagProcessor", "apiServer", "migrateDatabaseJob")
    accounts = {part: given[part]["serviceAccount"] for part in parts}
    assert not [part for part, account in accounts.items() if account["create"] is not False]
    assert {account["name"] for account in accounts.values()} == there
    assert (
        accounts["apiServer"]["name"] == accounts["dagProcessor"]["name"] == "airflow"
    )  # which may do nothing


@pytest.mark.parametrize("name", OVERLAYS)
def test_for_the_chart_the_scheduler_starts_tasks_and_triggerers_show_their_logs(name: str) -> None:
    resources = overlay_for_the_chart(name)
    assert rights(resources) == matrix(f"{MATRIX}\n{EXECUTOR}")
    network = Network(of_kind(resources, "NetworkPolicy"))
    part = {
        component: End(NAMESPACE, {"tier": "airflow", "component": component})
        for component in ("api-server", "triggerer", "worker", "scheduler")
    }
    shown = {one for one in part if network.reaches(part[one], part["triggerer"], 8794)}
    assert shown == {"api-server"}


def test_the_chart_makes_no_secret_and_reads_those_that_are_documented() -> None:
    given = values()
    assert not [name for name, made in given["enableBuiltInSecretEnvVars"].items() if made is not False]
    named = {given[key] for key in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")}
    named |= {given["data"]["metadataSecretName"]}
    named |= {one["secretRef"]["name"] for one in yaml.safe_load(given["extraEnvFrom"]) if "secretRef" in one}
    assert not {("sevenfold-airflow", name) for name in named} - secrets().keys()
    for part in (given["workers"]["kubernetes"], given["triggerer"], given["apiServer"]):
        (volume,) = part["extraVolumes"]
        keys = {item["key"] for item in volume["secret"]["items"]}
        assert keys <= secrets()["sevenfold-airflow", volume["secret"]["secretName"]]
        assert volume["secret"]["defaultMode"] == 0o440


def test_every_part_of_the_chart_is_restricted_and_says_what_it_uses() -> None:
    given = values()
    whole, container = given["securityContexts"]["pod"], given["securityContexts"]["containers"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == given["uid"] == given["gid"] == 10001
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["readOnlyRootFilesystem"] is True
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    parts = [given["workers"]["kubernetes"], *(given[part] for part in RUNNING)]
    for part in parts:
        assert part["resources"]["limits"]["memory"] == part["resources"]["requests"]["memory"]
        assert part["priorityClassName"] == "sevenfold-release"


RUNNING = ("scheduler", "triggerer", "dagProcessor", "apiServer", "migrateDatabaseJob")


def test_every_part_of_the_component_runs_the_same_image() -> None:
    resources: list[Resource] = overlay("production")
    parts = [
        one
        for one in of_kind(resources, "Deployment", "Job")
        if one["metadata"]["namespace"] == "sevenfold-airflow"
    ]
    assert len(parts) == 6
    images = {
        container["image"]
        for one in parts
        for kind in ("containers", "initContainers")
        for container in one["spec"]["template"]["spec"].get(kind, [])
    }
    assert len(images) == 1


def test_where_people_say_commands_there_is_what_these_need() -> None:
    """Documented is `exec deployment/airflow-scheduler`, by the chart `deployment/airflow-triggerer`."""
    [scheduler] = [
        one
        for one in of_kind(overlay("production"), "Deployment")
        if one["metadata"]["name"] == "airflow-scheduler"
    ]
    for volumes in (scheduler["spec"]["template"]["spec"]["volumes"], values()["triggerer"]["extraVolumes"]):
        [files] = [volume["secret"]["items"] for volume in volumes if volume["name"] == "secrets"]
        needed = {"airflow.json", "signing.pem", "trusted.json", "people.json"}
        assert {item["key"] for item in files} == needed
