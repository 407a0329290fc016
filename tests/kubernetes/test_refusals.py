"""What a real cluster does to a pod that asks for too much or may not: one sentence, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes.airflow import ROOT
from tests.kubernetes.place import Place

TRY = """
import json, sys
import os
import tests.airflow_home
CONNECTION
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client import models as k8s
from tests.airflow_home import context
from sevenfold_airflow.pod import PodOperator
given = json.loads(sys.argv[1])
with DAG("toy.training", schedule=None):
    task = PodOperator(
        task_id="toy", name="toy", cmds=["python", "-c", given["code"]], retries=0,
        labels={"environment": "training", "activity": "toy", "of": given["of"]},
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "10m", "memory": given["memory"]}, limits={"memory": given["memory"]}),
        **{"image": "trainer", **given["more"]},
    )
task = task.prepare_for_execution()
try:
    task.execute(context(task))
    print(json.dumps({"kind": "success"}))
except Exception as error:
    print(json.dumps({"kind": type(error).__name__, "said": str(error)}))
"""


class Trier:
    """Runs one try of a task in a process of its own, as a worker does."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        extra = {
            "kube_config_path": str(place.kubeconfig(folder)),
            "sevenfold": {
                "runtime": "kubernetes",
                **place.images.settings(),
                "namespace": f"{place.name}-{{environment}}",
                "deferrable": False,
                "schedule_seconds": 15,
                "start_seconds": 600,
            },
        }
        self.connection = json.dumps({"conn_type": "kubernetes", "extra": extra})

    def __call__(self, of: str, code: str = "", memory: str = "128Mi", **more: object) -> dict[str, str]:
        given = {"of": of, "code": code, "memory": memory, "more": more}
        paths = f"{ROOT}:{ROOT / 'include'}:{ROOT / 'plugins'}"
        connection = f"os.environ['AIRFLOW_CONN_KUBERNETES_DEFAULT'] = {self.connection!r}"
        start = TRY.replace("CONNECTION", connection)
        done = subprocess.run(
            [sys.executable, "-c", start, json.dumps(given)],
            capture_output=True,
            text=True,
            timeout=900,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(Path.home()),
                "PYTHONPATH": paths,
                "OMP_NUM_THREADS": "1",
            },
        )
        assert done.stdout.strip(), done.stderr[-3000:]
        ended: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
        print(ended)
        return ended

    def phases(self, of: str) -> list[str]:
        """Of its pods that stay: one that is being deleted takes the kubelet a moment."""
        pods = self.place.cluster.pods(self.place.namespace, of=of)
        return [pod.status.phase for pod in pods if pod.metadata.deletion_timestamp is None]


@pytest.fixture(scope="module")
def attempt(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Trier:
    return Trier(place, tmp_path_factory.mktemp("trier"))


def test_a_pod_that_does_as_it_should(attempt: Trier) -> None:
    code = """
import os, pathlib, sys
from sevenfold.settings import settings
from sevenfold.evidence.signing import Keys
here = settings()
assert here.runtime == 'kubernetes' and os.getuid() == 10001, here
for folder in (here.data, pathlib.Path('/scratch'), pathlib.Path('/dev/shm')):
    (folder / 'try').write_text('it can be written')
assert Keys(here.secrets / 'evidence').trusted, 'the public keys are there'
assert not os.path.exists('/var/run/secrets/kubernetes.io'), 'and no token of the API'
try:
    open('/opt/try', 'w')
except OSError as error:
    print('read-only:', error)
else:
    sys.exit('the root file system can be written')
"""
    assert attempt("good", code) == {"kind": "success"}
    assert attempt.phases("good") == []


def test_memory_that_is_overrun_is_explained(attempt: Trier) -> None:
    code = "print('filling', flush=True); hold = [bytearray(1 << 24) for _ in range(1000)]"
    ended = attempt("memory", code, memory="64Mi")
    assert "toy needed more memory than its limit of 64Mi and was killed (OOMKilled)" in ended["said"]
    assert attempt.phases("memory") == ["Failed"], "it stays for reading"


def test_a_pod_that_no_node_has_room_for(attempt: Trier) -> None:
    ended = attempt("large", memory="500Gi")
    assert "toy found no node" in ended["said"]
    assert attempt.phases("large") == [], "it does not start later, beside the next try"


def test_an_image_that_is_not_there(attempt: Trier) -> None:
    ended = attempt("image", image="elsewhere.invalid/none:1", image_pull_policy="Never")
    assert "toy could not get image elsewhere.invalid/none:1 (ErrImageNeverPull" in ended["said"]
    assert attempt.phases("image") == []


@pytest.fixture
def forbidden(place: Place) -> Iterator[None]:
    place.allow(False)
    try:
        yield
    finally:
        place.allow()


@pytest.mark.usefixtures("forbidden")
def test_an_account_that_may_not_is_told_so(attempt: Trier) -> None:
    ended = attempt("forbidden")
    assert ended["kind"] == "AirflowFailException", "another try would not help"
    assert "the cluster does not allow toy: pods is forbidden: User" in ended["said"]
    assert "cannot list resource" in ended["said"]
    assert "roles of Airflow's accounts" in ended["said"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"priority_class_name": "no-such-class"}, "no PriorityClass with name no-such-class"),
        ({"service_account_name": "nobody"}, "error looking up service account"),
        ({"hostnetwork": True}, "violates PodSecurity"),
    ],
    ids=["priority", "account", "security"],
)
def test_what_the_cluster_refuses_is_said_with_the_remedy(
    attempt: Trier, more: dict[str, object], said: str
) -> None:
    ended = attempt("refused", **more)
    assert ended["kind"] == "AirflowFailException"
    assert said in ended["said"]


def test_a_quota_that_is_spent_may_pass(attempt: Trier, place: Place) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "nothing"},
        "spec": {"hard": {"requests.cpu": "1m"}},
    }
    place.cluster.make(quota, place.namespace)
    try:
        ended = attempt("quota")
    finally:
        place.cluster.core.delete_namespaced_resource_quota("nothing", place.namespace)
    assert ended["kind"] == "AirflowException"
    assert "exceeded quota" in ended["said"]
