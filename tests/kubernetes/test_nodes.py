"""One training on two nodes: two pods of a Job that meet by name make one candidate, by the unmodified DAG.

Both pods may lie on one machine: what makes them two nodes are the numbers of the Job and their host names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kubernetes.airflow import ENDED, ROOT, Airflow
from tests.kubernetes.place import RESTRICTED, Place

MODEL = ROOT / "include" / "models" / "flight_delay"
NUMBER = "batch.kubernetes.io/job-completion-index"


@pytest.fixture(scope="module")
def two_nodes(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """An Airflow and pods for whom model.yaml says that two nodes train."""
    if not place.cluster.has_dns():
        pytest.skip("the pods of a Job meet by name, and this cluster has no DNS (no Service kube-dns)")
    folder = tmp_path_factory.mktemp("nodes")
    own = folder / "models" / MODEL.name
    shutil.copytree(MODEL, own, ignore=shutil.ignore_patterns("__pycache__"))
    said = (own / "model.yaml").read_text()
    wanted = "resources:\n  training.train: {cpu: 500m, memory: 2Gi, nodes: 2}\n"
    (own / "model.yaml").write_text(said.replace("resources:\n", wanted, 1))
    _bring(place, (own / "model.yaml").read_text())
    running = Airflow(place, folder, own.parent, variables={"SEVENFOLD_MODELS": "/data/models"})
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_two_nodes_train_one_candidate(two_nodes: Airflow) -> None:
    cluster, namespace = two_nodes.place.cluster, two_nodes.place.namespace
    two_nodes.trigger("nodes")
    seen: set[str] = set()

    def trained(tasks: dict[str, Any]) -> bool:
        running = [pod for pod in two_nodes.pods("nodes", "train") if pod.status.phase == "Running"]
        seen.update(pod.metadata.labels[NUMBER] for pod in running)
        return tasks["train"]["state"] in ENDED

    tasks = two_nodes.follow("nodes", trained, 900)
    said = two_nodes.log("nodes", "train")
    assert (tasks["train"]["state"], tasks["train"]["try_number"]) == ("success", 1), said[-3000:]
    assert seen == {"0", "1"}, "each node was a pod"
    assert "by 1 process on each of 2 nodes, this one number 0" in said
    assert "node 1 has done its part" in said, "the logs of all nodes are in Airflow's"
    assert "kept epoch" in said
    assert cluster.batch.list_namespaced_job(namespace).items == [], "what succeeded is deleted"


def _bring(place: Place, said: str) -> None:
    """Puts the model with this model.yaml where the pods look for models: on the volume that they share."""
    there = f"/data/models/{MODEL.name}"
    copy = (
        f"mkdir -p /data/models && cp -r /opt/sevenfold/include/models/{MODEL.name} /data/models/ "
        f'&& printf %s "$SAID" > {there}/model.yaml'
    )
    container = {
        "name": "bring",
        "image": place.images["trainer"],
        "imagePullPolicy": place.images.pull_policy,
        "command": ["sh", "-c", copy],
        "env": [{"name": "SAID", "value": said.replace("$(", "$$(")}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": RESTRICTED,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "sevenfold-data"}}],
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bring"}, "spec": spec}
    place.cluster.make(pod, place.namespace)
    place.cluster.wait(
        lambda: place.cluster.phase("bring", place.namespace) == "Succeeded",
        "the pods are not given their model",
        180,
    )
