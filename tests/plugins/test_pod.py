"""PodOperator: one V1Pod for both runtimes, and what a failed pod says."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from kubernetes.client import ApiClient, ApiException  # noqa: TID253
from kubernetes.client import models as k8s  # noqa: TID253
from tests.airflow_home import context
from tests.plugins.ended_pods import container, pod_that
from urllib3.exceptions import ProtocolError

from sevenfold.settings import settings as cached_settings
from sevenfold_airflow.pod import PodOperator
from sevenfold_airflow.pod_settings import PodSettings


def operator(code: str = "", *, settings: PodSettings | None = None, **more: Any) -> PodOperator:
    given = {"image": "trainer", "cmds": ["python", "-c", code], "random_name_suffix": False}
    with DAG("toy.training", schedule=None):
        made = PodOperator(task_id="train", **given | more)
    task: PodOperator = made.prepare_for_execution()
    task._pod_settings = settings or PodSettings(runtime="local")
    return task


def run(task: PodOperator) -> None:
    found = context(task)
    task.render_template_fields(found)
    task.execute(found)


LABELS = {"model": "toy", "environment": "training", "activity": "train", "run": "{{ run_id }}"}


def test_the_pod_is_the_one_expected() -> None:
    here = PodSettings(
        runtime="kubernetes",
        registry="registry.example/ml",
        tag="1.2",
        namespace="ml-{environment}",
        image_pull_policy="Never",
        image_pull_secrets=("registry",),
        queues={"training": "gpus"},
        variables={"SEVENFOLD_GATEWAY_URL": "http://gateway.ml-{environment}.svc:8000"},
        secrets=("evidence",),
    )
    task = operator(
        settings=here,
        name="toy-training-train",
        cmds=["python", "-m", "activities.training.train"],
        arguments=["--run", "{{ run_id }}"],
        labels=LABELS,
        execution_timeout=timedelta(hours=2),
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "1", "memory": "2Gi"}, limits={"memory": "2Gi"}
        ),
    )
    found = context(task, run_id="manual__2026-11-23T10:00:00+00:00")
    task.render_template_fields(found)
    pod = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(found, dry_run=True))
    labels = pod["metadata"].pop("labels")
    assert labels["model"] == "toy"
    assert labels["activity"] == "train"
    assert labels["app.kubernetes.io/part-of"] == "sevenfold"
    assert ":" not in labels["run"]
    assert pod["metadata"] == {"annotations": {}, "name": "toy-training-train", "namespace": "ml-training"}
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["activeDeadlineSeconds"] == 7800, "the cluster ends what Airflow has forgotten"
    assert pod["spec"]["containers"] == [
        {
            "name": "base",
            "image": "registry.example/ml/trainer:1.2",
            "imagePullPolicy": "Never",
            "command": ["python", "-m", "activities.training.train"],
            "args": ["--run", "manual__2026-11-23T10:00:00+00:00"],
            "env": [
                {"name": "SEVENFOLD_RUNTIME", "value": "kubernetes"},
                {"name": "SEVENFOLD_DATA", "value": "/data"},
                {"name": "SEVENFOLD_SECRETS", "value": "/secrets"},
                {"name": "SEVENFOLD_IMAGES", "value": json.dumps(here.references())},
                {"name": "SEVENFOLD_GATEWAY_URL", "value": "http://gateway.ml-training.svc:8000"},
            ],
            "envFrom": [
                {"configMapRef": {"name": "sevenfold", "optional": True}},
                {"secretRef": {"name": "sevenfold", "optional": True}},
                {"secretRef": {"name": "evidence"}},
            ],
            "ports": [],
            "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"mountPath": "/scratch", "name": "scratch"},
                {"mountPath": "/data", "name": "data"},
                {"mountPath": "/secrets", "name": "secrets", "readOnly": True},
                {"mountPath": "/dev/shm", "name": "shm"},
            ],
        }
    ]


def test_both_runtimes_get_the_same_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {}
    monkeypatch.setattr(
        KubernetesPodOperator,
        "execute",
        lambda self, found: pods.update(kubernetes=self.build_pod_request_obj(found, dry_run=True)),
    )
    where = ("SEVENFOLD_RUNTIME", "SEVENFOLD_DATA", "SEVENFOLD_SECRETS", "SEVENFOLD_IMAGES")
    for runtime in ("kubernetes", "local"):
        task = operator(settings=PodSettings(runtime=runtime), name="toy", labels=LABELS)
        run(task)
        if runtime == "local":
            pods["local"] = task.pod_request_obj
    plain = {runtime: ApiClient().sanitize_for_serialization(pod) for runtime, pod in pods.items()}
    environment = plain["kubernetes"]["spec"]["containers"][0].pop("env")
    assert tuple(variable["name"] for variable in environment) == where, (
        "only these say where it runs, and what"
    )
    here = plain["local"]["spec"]["containers"][0].pop("env", [])
    assert here == [], "a laptop's activities would look for keys in /secrets and write to /logs"
    assert plain["kubernetes"] == plain["local"]


def test_what_moves_traffic_has_rights_of_its_own_and_is_a_process_on_a_laptop_all_the_same() -> None:
    labels = LABELS | {"environment": "production", "activity": "canary"}
    specs = {}
    for account in ("", "promoter"):
        task = operator(name="toy", labels=labels, account=account)
        run(task)
        specs[account] = ApiClient().sanitize_for_serialization(task.pod_request_obj)["spec"]
    (mine,), (usual,) = (specs[account]["containers"] for account in ("promoter", ""))
    assert mine.pop("envFrom") == [
        *usual.pop("envFrom"),
        {"secretRef": {"name": "sevenfold-promoter", "optional": True}},
    ]
    assert specs["promoter"] == specs[""] | {"serviceAccountName": "promoter"}


def test_image_names() -> None:
    here = PodSettings(images={"trainer": "r.example/t@sha256:00"})
    assert here.image("trainer") == "r.example/t@sha256:00"
    assert here.image("quality") == "sevenfold/quality:dev"
    assert here.image("elsewhere/own:3") == "elsewhere/own:3"
    assert here.image("unheard") == "sevenfold/unheard:dev"


def test_pods_take_their_images_from_the_file_of_make_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(
        "kind: Component\nimages: [{name: sevenfold/trainer, newName: r.example/t, newTag: '7'}]\n"
    )
    monkeypatch.setenv("SEVENFOLD_IMAGES_FILE", str(file))
    cached_settings.cache_clear()
    assert PodSettings().image("trainer") == "r.example/t:7"
    assert PodSettings(registry="mirror.example").image("trainer") == "mirror.example/t:7"
    assert PodSettings(images={"trainer": "own/t:1"}).references() == {"trainer": "own/t:1"}
    cached_settings.cache_clear()


def test_settings_come_from_the_connection() -> None:
    task = operator()
    task._pod_settings = None
    assert task.pod_settings == PodSettings(runtime="local")
    with pytest.raises(AirflowFailException, match="extra sevenfold: imagez means nothing here"):
        PodSettings.of({"sevenfold": {"imagez": {}}})


def test_the_error_sentence_of_an_activity_is_the_exception() -> None:
    code = "import sys; print('working'); print('train: no rows in April', file=sys.stderr); sys.exit({})"
    with pytest.raises(
        AirflowException, match=r"train ended with exit code 1 after .* s: train: no rows in April"
    ):
        run(operator(code.format(1)))
    with pytest.raises(AirflowFailException) as failed:
        run(operator(code.format(64)))
    assert str(failed.value) == "train: no rows in April"


def test_a_killed_pod_says_by_what() -> None:
    with pytest.raises(
        AirflowException, match=r"killed by SIGKILL .* lack of memory; its last line: it wrote"
    ):
        run(operator("import os; os.kill(os.getpid(), 9)"))


def test_a_pod_that_needs_a_cluster_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match=r"this pod needs a cluster: .*no command"):
        run(operator(cmds=[]))


def test_the_environment_of_a_local_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVENFOLD_EXAMPLE", "passed on")
    run(
        operator(
            "import os, sevenfold; e = os.environ; "
            "assert (e['SEVENFOLD_EXAMPLE'], e['OMP_NUM_THREADS']) == ('passed on', '1'), e; "
            "assert not [n for n in e if n.startswith('AIRFLOW')]"
        )
    )


def test_execution_timeout_ends_the_process() -> None:
    from airflow.sdk.execution_time.timeout import timeout

    task = operator("import time; time.sleep(60)", termination_grace_period=1, execution_timeout=timedelta(1))
    with pytest.raises(AirflowTaskTimeout), timeout(1):
        run(task)
    assert task._local is not None
    assert task._local._process is not None
    assert task._local._process.poll() is not None
    task.on_kill()


@pytest.mark.parametrize(("code", "kind"), [(64, AirflowFailException), (1, AirflowException)])
def test_exit_64_is_not_retried_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    ended = k8s.V1ContainerStateTerminated(exit_code=code, message="working\ntrain: no rows in April\n")
    pod = pod_that(container(k8s.V1ContainerState(terminated=ended)))

    def failed(self: Any, found: Any) -> None:
        self.remote_pod = pod
        raise AirflowException("Pod toy returned a failure.")

    monkeypatch.setattr(KubernetesPodOperator, "execute", failed)
    monkeypatch.setattr(KubernetesPodOperator, "hook", SimpleNamespace(get_pod=lambda name, namespace: pod))
    with pytest.raises(AirflowException) as raised:
        run(operator(settings=PodSettings(runtime="kubernetes")))
    assert type(raised.value) is kind
    sentence = "train: no rows in April"
    assert str(raised.value) == (sentence if code == 64 else f"train ended with exit code 1: {sentence}")


SILENT = SimpleNamespace(list_namespaced_event=lambda *_, **__: SimpleNamespace(items=[]))
"""Of the core API what tells events: nobody has said anything."""


def test_a_pod_that_has_vanished_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    task = operator(settings=PodSettings(runtime="kubernetes", deferrable=True))

    def gone(name: str, namespace: str) -> k8s.V1Pod:
        raise ApiException(status=404)

    monkeypatch.setattr(KubernetesPodOperator, "hook", SimpleNamespace(get_pod=gone, core_v1_client=SILENT))
    event = {"status": "success", "name": "toy", "namespace": "sevenfold-training", "message": "all is well"}
    with pytest.raises(AirflowException, match=r"pod toy of train has vanished .* nobody saw it end"):
        task.trigger_reentry(context(task), event)


def test_a_pod_deleted_while_it_runs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise ApiException(status=404)

    def deleted(self: Any, found: Any) -> None:
        self.pod = pod_that()
        gone()

    monkeypatch.setattr(KubernetesPodOperator, "execute", deleted)
    monkeypatch.setattr(KubernetesPodOperator, "hook", SimpleNamespace(get_pod=gone, core_v1_client=SILENT))
    with pytest.raises(AirflowException, match="pod toy of train has vanished") as raised:
        run(operator(settings=PodSettings(runtime="kubernetes")))
    assert not isinstance(raised.value, AirflowFailException)


def test_what_went_wrong_is_told_also_when_nobody_answers_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: Any, found: Any) -> None:
        self.pod = pod_that()
        raise AirflowException("Pod toy returned a failure.")

    def silent(name: str, namespace: str) -> k8s.V1Pod:
        raise ProtocolError("Connection aborted.")

    monkeypatch.setattr(KubernetesPodOperator, "execute", failed)
    monkeypatch.setattr(KubernetesPodOperator, "hook", SimpleNamespace(get_pod=silent))
    with pytest.raises(AirflowException, match=r"^Pod toy returned a failure\.$"):
        run(operator(settings=PodSettings(runtime="kubernetes")))


def test_a_service_account_that_may_not_is_told_so_and_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any, found: Any) -> None:
        error = ApiException(status=403, reason="Forbidden")
        error.body = '{"message": "pods is forbidden: User \\"airflow\\" cannot create resource \\"pods\\""}'
        raise error

    monkeypatch.setattr(KubernetesPodOperator, "execute", refused)
    with pytest.raises(AirflowFailException, match='does not allow train: pods is forbidden: User "airflow"'):
        run(operator(settings=PodSettings(runtime="kubernetes")))


def test_on_kill_reaches_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(KubernetesPodOperator, "on_kill", lambda self: seen.append("deleted"))
    operator(settings=PodSettings(runtime="kubernetes")).on_kill()
    assert seen == ["deleted"]
