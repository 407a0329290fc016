"""An activity on several nodes: the Indexed Job that a cluster gets, and one process here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk import DAG
from kubernetes.client import ApiClient  # noqa: TID253
from kubernetes.client import models as k8s  # noqa: TID253
from tests.airflow_home import context
from tests.dags.test_pods import unrestricted

from sevenfold.training.launch import PORT, Launch
from sevenfold_airflow.kueue import QUEUE
from sevenfold_airflow.nodes import SERVICE, NodesOperator
from sevenfold_airflow.pod_settings import PodSettings

MANIFEST = Path(__file__).resolve().parents[2] / "include/kubernetes/base/environments/training/nodes.yaml"


def operator(runtime: str, code: str = "") -> NodesOperator:
    with DAG("toy.training", schedule=None):
        made = NodesOperator(
            task_id="train",
            name="toy-training-train",
            nodes=3,
            image="trainer",
            cmds=["python", "-c", code],
            labels={"model": "toy", "environment": "training", "activity": "train"},
            container_resources=k8s.V1ResourceRequirements(limits={"nvidia.com/gpu": "2", "memory": "8Gi"}),
            startup_check_interval_seconds=0,
        )
    task: NodesOperator = made.prepare_for_execution()
    task._pod_settings = PodSettings(
        runtime=runtime,
        queues={"training": "gpus"},
        variables={"SEVENFOLD_MLFLOW_URL": "http://mlflow"},
        secrets=("evidence",) if runtime == "kubernetes" else (),
    )
    return task


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(KubernetesJobOperator, "hook", SimpleNamespace(is_in_cluster=True))
    task = operator("kubernetes")
    plain: dict[str, Any] = ApiClient().sanitize_for_serialization(task.build_job_request_obj(context(task)))
    return plain


def test_it_is_an_indexed_job_that_airflow_alone_repeats(job: dict[str, Any]) -> None:
    wanted = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0}
    assert {name: job["spec"][name] for name in wanted} == wanted
    assert job["metadata"]["namespace"] == "sevenfold-training"
    assert job["metadata"]["labels"][QUEUE] == "gpus"
    assert job["spec"]["podReplacementPolicy"] == "Failed", "never two of one number, on one checkpoint"
    assert job["spec"]["ttlSecondsAfterFinished"] == 72 * 3600


def test_its_pods_are_those_of_the_environment(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]
    assert not unrestricted(pod)
    assert pod["spec"]["serviceAccountName"] == "training"
    assert "name" not in pod["metadata"]
    base = pod["spec"]["containers"][0]
    assert base["image"] == "sevenfold/trainer:dev"
    assert base["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "SEVENFOLD_MLFLOW_URL", "value": "http://mlflow"} in base["env"]
    assert {"secretRef": {"name": "evidence"}} in base["envFrom"]
    assert QUEUE not in pod["metadata"]["labels"], "Kueue takes the Job, its pods come with it"


def test_its_pods_find_the_first_of_them(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]
    named = [variable["name"] for variable in pod["spec"]["containers"][0]["env"]]
    assert named.index("JOB_NAME") < named.index("MASTER_ADDR"), "Kubernetes expands what stands above only"
    [address] = [v["value"] for v in pod["spec"]["containers"][0]["env"] if v["name"] == "MASTER_ADDR"]
    service = yaml.safe_load(MANIFEST.read_text())
    assert service["metadata"]["name"] == pod["spec"]["subdomain"] == SERVICE
    assert service["metadata"]["namespace"] == job["metadata"]["namespace"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None"
    assert str(service["spec"]["ports"][0]["port"]) == PORT
    resources = SimpleNamespace(processes=2, gpu=0, nodes=3)
    in_the_pod = {"KUBERNETES_SERVICE_HOST": "1", "JOB_COMPLETION_INDEX": "1", "MASTER_ADDR": address}
    launch = Launch.of(resources, gpus=0, environment=in_the_pod)  # type: ignore[arg-type]
    assert (launch.nodes, launch.node, launch.address) == (3, 1, "$(JOB_NAME)-0.nodes")


def test_here_it_is_one_process(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    task = operator("local", f"open({str(ran)!r}, 'a').write('once ')")
    task.execute(context(task))
    assert ran.read_text() == "once "
