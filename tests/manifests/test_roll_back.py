"""The roll-back for when Airflow is down: a person starts the DAG's own program, with the DAG's rights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from tests.manifests.rendered import KUBERNETES, OVERLAYS, Resource, of_kind, overlay

from sevenfold.model.spec import load_spec
from sevenfold_airflow.pod_template import pod_template
from sevenfold_airflow.rail import go_back, roll_back_dag

DOCS = KUBERNETES.parents[1] / "docs" / "cluster.md"


@pytest.fixture(params=OVERLAYS)
def cron_job(request: pytest.FixtureRequest) -> Resource:
    [found] = of_kind(overlay(request.param), "CronJob")
    return found


def pod_of(cron_job: Resource) -> dict[str, Any]:
    pod: dict[str, Any] = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def test_nothing_but_a_person_starts_it(cron_job: Resource) -> None:
    assert cron_job["spec"]["suspend"] is True


def test_it_is_the_program_of_the_dag_with_the_rights_of_its_pods(cron_job: Resource) -> None:
    with roll_back_dag(load_spec("flight_delay"), "a roll-back"):
        task = go_back()
    pod = pod_of(cron_job)
    [container] = pod["containers"]
    assert container["command"] == task.cmds
    assert container["args"][::2] == task.arguments[::2], "the same options"
    template = pod_template(task.environment, task.account)
    assert template is not None
    assert pod["serviceAccountName"] == template.spec.service_account_name == "promoter"
    assert pod["priorityClassName"] == template.spec.priority_class_name
    role = [one.secret_ref.name for one in template.spec.containers[0].env_from if one.secret_ref][-1]
    assert {"secretRef": {"name": role}} in container["envFrom"]


def test_what_a_person_says_reaches_it(cron_job: Resource) -> None:
    [container] = pod_of(cron_job)["containers"]
    variables = {one["name"] for one in container["env"]}
    named = {name for argument in container["args"] for name in re.findall(r"^\$\((\w+)\)$", argument)}
    assert len(named) == len(container["args"]) / 2
    assert named <= variables
    [command] = re.findall(r"kubectl set env .*", DOCS.read_text())
    said = set(re.findall(r"\b([A-Z]+)=", command))
    assert {"MODEL", "BY", "REASON"} == said <= named
