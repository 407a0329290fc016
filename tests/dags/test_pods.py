"""The pods that the DAGs launch on a cluster: each activity of each model, rendered by the provider."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk import DAG
from kubernetes.client import ApiClient  # noqa: TID253
from kubernetes.client import models as k8s  # noqa: TID253
from tests.airflow_home import context
from tests.pod_security import unrestricted

from sevenfold.environments import ENVIRONMENTS
from sevenfold_airflow.pod import PodOperator
from sevenfold_airflow.pod_settings import PodSettings
from sevenfold_airflow.pod_template import FOLDER, pod_template

ROOT = Path(__file__).resolve().parents[2]
HERE = PodSettings(
    runtime="kubernetes",
    registry="registry.example/sevenfold",
    tag="1",
    image_pull_policy="Never",
    node_selectors={"gpu": {"pool": "gpu"}, "training": {"disk": "fast"}},
    variables={"SEVENFOLD_MLFLOW_URL": "http://mlflow"},
    secrets=("evidence",),
)


@pytest.fixture(scope="module")
def pods() -> dict[str, dict[str, Any]]:
    """The pod of each activity, as the API server gets it, by DAG and task."""
    bag = DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags")
    activities = [task for dag in bag.dags.values() for task in dag.tasks if isinstance(task, PodOperator)]
    assert len(activities) >= 20, "the DAGs launch hardly any pod"
    return {f"{task.dag_id}.{task.task_id}": rendered(task) for task in activities}


def rendered(task: PodOperator) -> dict[str, Any]:
    task = task.prepare_for_execution()
    task._pod_settings = HERE
    pod = task.build_pod_request_obj(context(task), dry_run=True)
    plain: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return plain


def test_every_pod_is_what_the_api_takes(pods: dict[str, dict[str, Any]]) -> None:
    for name, pod in pods.items():
        again = ApiClient().sanitize_for_serialization(PodGenerator.deserialize_model_dict(pod))
        assert again == pod, f"{name} has fields that the API does not know, or of the wrong type"


def test_every_pod_keeps_the_restricted_standard(pods: dict[str, dict[str, Any]]) -> None:
    broken = {name: found for name, pod in pods.items() if (found := unrestricted(pod))}
    assert not broken


def test_the_check_of_the_restricted_standard_can_fail(pods: dict[str, dict[str, Any]]) -> None:
    pod = next(iter(pods.values()))
    base = pod["spec"]["containers"][0]
    loosened = {
        "privilege escalation": (base["securityContext"], "allowPrivilegeEscalation", True),
        "capabilities": (base["securityContext"], "capabilities", {"drop": ["NET_RAW"]}),
        "root": (pod["spec"]["securityContext"], "runAsNonRoot", False),
        "user": (pod["spec"]["securityContext"], "runAsUser", 0),
        "seccomp": (pod["spec"]["securityContext"], "seccompProfile", {"type": "Unconfined"}),
        "host": (pod["spec"], "hostNetwork", True),
        "volume": (pod["spec"], "volumes", [{"name": "all", "hostPath": {"path": "/"}}]),
    }
    for what, (where, key, value) in loosened.items():
        kept = where.get(key)
        where[key] = value
        assert what in " ".join(unrestricted(pod)), f"nothing notices {what}"
        where[key] = kept


def test_a_pod_belongs_to_its_environment(pods: dict[str, dict[str, Any]]) -> None:
    for name, pod in pods.items():
        environment = pod["metadata"]["labels"]["environment"]
        assert environment in ENVIRONMENTS, name
        assert pod["metadata"]["namespace"] == f"sevenfold-{environment}"
        assert pod["spec"]["serviceAccountName"] in (environment, "promoter")
        deploys = environment in ("staging", "preproduction", "production")
        assert pod["spec"]["automountServiceAccountToken"] is deploys, (
            "who deploys nothing asks the API nothing"
        )
        assert pod["spec"]["priorityClassName"].startswith("sevenfold-")
        base = pod["spec"]["containers"][0]
        assert base["image"].startswith("registry.example/sevenfold/")
        assert base["resources"]["limits"]["memory"]
        assert base["resources"]["requests"]["cpu"]
        assert base["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"name": "scratch", "mountPath": "/scratch"} in base["volumeMounts"]


def moves_traffic(path: Path) -> bool:
    """Whether the program of an activity changes release rows, or what serves production."""
    tree = ast.parse(path.read_text())
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    called = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "release"
    }
    deploys = path.parent.name == "production" and "open_cluster" in imported
    return deploys or bool(imported & {"claim_slot", "go_back"} or called - {"row", "ReleaseRow"})


def test_whoever_moves_traffic_does_it_as_the_promoter_and_nobody_else_is(
    pods: dict[str, dict[str, Any]],
) -> None:
    own = {"secretRef": {"name": "sevenfold-promoter", "optional": True}}
    promoters = set()
    for name, pod in pods.items():
        mine = pod["spec"]["serviceAccountName"] == "promoter"
        variables = pod["spec"]["containers"][0]["envFrom"]
        assert (own in variables) is mine, f"{name}: account and database role go together"
        if mine:
            roles = [
                one for one in variables if one.get("secretRef", {}).get("name", "").startswith("sevenfold")
            ]
            assert roles[-1] == own, "of two Secrets with the same key the last one counts"
            promoters.add(".".join(pod["metadata"]["labels"][key] for key in ("environment", "activity")))
    assert promoters == {
        f"{path.parent.name}.{path.stem}"
        for path in (ROOT / "include" / "activities").glob("*/*.py")
        if moves_traffic(path)
    }
    assert "production.sla" not in promoters
    assert promoters >= {"production.go_back", "preproduction.shadow"}


def test_a_pod_with_gpus_gets_the_node_it_needs() -> None:
    asked = k8s.V1ResourceRequirements(limits={"memory": "8Gi", "nvidia.com/gpu": "2"})
    with DAG("toy.training", schedule=None):
        task = PodOperator(
            task_id="train",
            name="train",
            image="trainer",
            cmds=["python"],
            container_resources=asked,
            labels={"environment": "training"},
        )
    pod = rendered(task)
    assert pod["spec"]["nodeSelector"] == {"disk": "fast", "pool": "gpu"}
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"][
        "tolerations"
    ]


def test_every_environment_has_a_template_of_its_own() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*ENVIRONMENTS, "base", "promoter"}
    for environment in ENVIRONMENTS:
        pod = pod_template(environment)
        assert pod is not None
        assert pod.metadata.namespace == f"sevenfold-{environment}"
    assert pod_template("elsewhere") is None
