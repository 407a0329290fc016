"""Quotas and limits against what model.yaml asks: everything of an environment may run at once."""

from __future__ import annotations

import json
from collections import defaultdict
from copy import deepcopy
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient  # noqa: TID253
from kubernetes.utils.quantity import parse_quantity  # noqa: TID253
from tests.airflow_home import context
from tests.manifests.openapi import mistakes
from tests.manifests.rendered import KUBERNETES, OVERLAYS, Resource, of_kind, overlay, pods
from tests.manifests.test_airflow import settings_of_the_component
from tests.manifests.test_objects import dangling_of, objects

from sevenfold.environments import ENVIRONMENTS
from sevenfold.model.spec import load_spec
from sevenfold_airflow.pod import PodOperator, PodSettings

DAGS = KUBERNETES.parents[1] / "dags"
Uses = dict[str, float]


@pytest.fixture(scope="module")
def activities() -> dict[str, tuple[PodOperator, Resource]]:
    """Every activity of every model, with its pod."""
    bag = DagBag(str(DAGS), bundle_path=DAGS)
    tasks = [task for dag in bag.dags.values() for task in dag.tasks if isinstance(task, PodOperator)]
    connection = json.loads(settings_of_the_component()["AIRFLOW_CONN_KUBERNETES_DEFAULT"])
    settings = PodSettings.of(connection["extra"])
    found = {f"{task.dag_id}.{task.task_id}": (task, rendered(task, settings)) for task in tasks}
    assert len(found) >= 40
    return found


def rendered(task: PodOperator, settings: PodSettings) -> Resource:
    """The pod of an activity, as the API server gets it."""
    task = task.prepare_for_execution()
    task._pod_settings = settings
    pod = task.build_pod_request_obj(context(task), dry_run=True)
    plain: Resource = ApiClient().sanitize_for_serialization(pod)
    return plain


def uses(pod: Resource) -> Uses:
    """What a pod asks for, in a quota's words."""
    total: Uses = defaultdict(float)
    for container in pod["spec"]["containers"]:
        for kind in ("requests", "limits"):
            for name, amount in container["resources"].get(kind, {}).items():
                total[f"{kind}.{name}"] += float(parse_quantity(amount))
                if "/" in name and kind == "limits":  # an extended resource is requested by its limit
                    total[f"requests.{name}"] += float(parse_quantity(amount))
    return total


def quota(resources: list[Resource], environment: str, name: str = "environment") -> Uses:
    """The quota of an environment, or another one of its namespace."""
    (found,) = (
        one["spec"]["hard"]
        for one in of_kind(resources, "ResourceQuota")
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (f"sevenfold-{environment}", name)
    )
    return {name: float(parse_quantity(amount)) for name, amount in found.items()}


def over(hard: Uses, asked: Uses) -> dict[str, tuple[float, float]]:
    """Where what is asked does not fit."""
    return {name: (asked[name], most) for name, most in hard.items() if asked.get(name, 0.0) > most}


def at_once(
    environment: str, resources: list[Resource], activities: dict[str, tuple[PodOperator, Resource]]
) -> Uses:
    """All activities of all models, on all their nodes, beside what runs there always."""
    total: Uses = defaultdict(float)

    def add(pod: Resource, times: int) -> None:
        total["pods"] += times
        for name, amount in uses(pod).items():
            total[name] += times * amount

    for task, pod in activities.values():
        if pod["metadata"]["labels"]["environment"] == environment:
            model = task.dag_id.partition(".")[0]
            add(pod, load_spec(model).resources_of(environment, task.task_id).nodes)
    replicas = {
        f"{one['metadata'].get('namespace')}/{one['metadata']['name']}": one["spec"].get("replicas", 1)
        for one in of_kind(resources, "Deployment")
    }
    for name, pod in pods(resources):
        if pod["metadata"]["namespace"] == f"sevenfold-{environment}":
            add(pod, replicas.get(name.partition(" ")[2], 1))
    return total


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_of_an_environment_fits_into_its_quota(
    name: str, activities: dict[str, tuple[PodOperator, Resource]]
) -> None:
    resources = overlay(name)
    for environment in ENVIRONMENTS:
        asked = at_once(environment, resources, activities)
        assert asked["requests.memory"] > 0
        assert not over(quota(resources, environment), asked), environment


@pytest.mark.parametrize("name", OVERLAYS)
def test_however_many_replicas_there_are_a_roll_back_finds_room(
    name: str, activities: dict[str, tuple[PodOperator, Resource]]
) -> None:
    resources = overlay(name)
    whole, serving = (quota(resources, "production", which) for which in ("environment", "serving"))
    rest = [pod for _, pod in pods(resources) if pod["metadata"]["namespace"] == "sevenfold-production"]
    rest = [pod for pod in rest if pod["spec"]["priorityClassName"] != "sevenfold-serving"]
    rest += [pod for who, (_, pod) in activities.items() if who.endswith(".go_back")]
    assert len(rest) >= 4, "the reconciler, the CronJob's, and one of each model"
    asked: Uses = defaultdict(float)
    for pod in rest:
        asked["pods"] += 1
        for what, amount in uses(pod).items():
            asked[what] += amount
    assert serving.keys() == {"pods", "requests.cpu", "requests.memory", "limits.memory"}
    assert not over({what: whole[what] - most for what, most in serving.items()}, asked)


def test_a_quota_that_is_too_small_is_noticed(activities: dict[str, tuple[PodOperator, Resource]]) -> None:
    resources = overlay("laptop-kind")
    asked = at_once("training", resources, activities)
    hard = quota(resources, "training")
    assert over({**hard, "requests.memory": 2 * 2**30}, asked).keys() == {"requests.memory"}
    assert over({**hard, "pods": 1}, asked).keys() == {"pods"}
    assert over(hard, {"requests.nvidia.com/gpu": 1.0}).keys() == {"requests.nvidia.com/gpu"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_pod_is_larger_than_the_largest_that_is_allowed(
    name: str, activities: dict[str, tuple[PodOperator, Resource]]
) -> None:
    resources = overlay(name)
    ranges = {
        one["metadata"]["namespace"]: float(parse_quantity(one["spec"]["limits"][0]["max"]["memory"]))
        for one in of_kind(resources, "LimitRange")
    }
    made = [pod for _, pod in activities.values()] + [pod for _, pod in pods(resources)]
    for pod in made:
        most = ranges.get(pod["metadata"]["namespace"], float("inf"))
        assert uses(pod)["limits.memory"] <= most


def test_the_learning_environments_cannot_take_a_release_s_priority(
    activities: dict[str, tuple[PodOperator, Resource]],
) -> None:
    resources = overlay("production")
    refused: dict[str, set[str]] = {}
    for one in of_kind(resources, "ResourceQuota"):
        if one["metadata"]["name"] == "batch-only":
            assert one["spec"]["hard"] == {"pods": "0"}
            (scope,) = one["spec"]["scopeSelector"]["matchExpressions"]
            refused[one["metadata"]["namespace"]] = set(scope["values"])
    higher = {one["metadata"]["name"] for one in of_kind(resources, "PriorityClass")} - {"sevenfold-batch"}
    for environment in ("development", "training", "testing"):
        assert higher <= refused[f"sevenfold-{environment}"]
    for _, pod in activities.values():
        assert pod["spec"]["priorityClassName"] not in refused.get(pod["metadata"]["namespace"], set())


def test_every_activity_s_pod_is_one_that_the_api_takes(
    activities: dict[str, tuple[PodOperator, Resource]],
) -> None:
    found: dict[str, Any] = {name: wrong for name, (_, pod) in activities.items() if (wrong := mistakes(pod))}
    assert not found
    pod = deepcopy(next(iter(activities.values()))[1])
    pod["spec"]["containers"][0]["imagePullPolcy"] = "Never"
    assert "imagePullPolcy: no such field" in " ".join(mistakes(pod))


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_an_activity_s_pod_names_is_there(
    name: str, activities: dict[str, tuple[PodOperator, Resource]]
) -> None:
    there = objects(overlay(name))
    assert not {who: lost for who, (_, pod) in activities.items() if (lost := dangling_of(who, pod, there))}
    pod = deepcopy(next(iter(activities.values()))[1])
    pod["spec"]["serviceAccountName"] = "nobody"
    assert dangling_of("it", pod, there)
