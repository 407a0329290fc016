"""A V1Pod as a local process: what it gets, what it may ask for, how it ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from kubernetes.client import models as k8s  # noqa: TID253

from sevenfold_airflow.local_pod import CannotRunLocally, LocalPod, expand


def pod(code: str = "", **more: Any) -> k8s.V1Pod:
    container = {"name": "base", "image": "any", "command": ["python", "-c", code]}
    container |= {k: more.pop(k) for k in list(more) if k in k8s.V1Container.attribute_map}
    spec = {"termination_grace_period_seconds": 1} | more
    metadata = k8s.V1ObjectMeta(name="toy-train", namespace="ml", labels={"model": "toy"})
    return k8s.V1Pod(metadata=metadata, spec=k8s.V1PodSpec(containers=[k8s.V1Container(**container)], **spec))


def run(given: k8s.V1Pod, **environment: str) -> tuple[Any, list[str]]:
    lines: list[str] = []
    return LocalPod(given, log=lines.append, environment=environment).run(), lines


def test_lines_stream_in_order_and_the_last_one_is_kept() -> None:
    code = "import sys; print('one'); print('train: no rows in May', file=sys.stderr); print(); exit(3)"
    ended, lines = run(pod(code))
    assert lines[:2] == ["one", "train: no rows in May"]
    assert (ended.exit_code, ended.last_line) == (3, "train: no rows in May")
    assert ended.peak_mib is not None
    assert ended.cpu_seconds is not None


def test_no_variable_of_this_process_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret")
    monkeypatch.setenv("ANYTHING_ELSE", "x")
    _, lines = run(pod("import os; print(*sorted(os.environ))"), SEVENFOLD_HOME="/h")
    names = lines[0].split()
    assert not [name for name in names if name.startswith("AIRFLOW") or name == "ANYTHING_ELSE"]
    assert {"SEVENFOLD_HOME", "PATH", "PYTHONUNBUFFERED"} <= set(names)


def test_variables_and_arguments_as_kubernetes_expands_them() -> None:
    field = k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.labels['model']"))
    env = [k8s.V1EnvVar("A", "1"), k8s.V1EnvVar("B", "$(A)2"), k8s.V1EnvVar("M", value_from=field)]
    ended, lines = run(
        pod("import sys; print(sys.argv[1:])", args=["$(B)", "$(M)", "$(NO)", "$$(A)"], env=env)
    )
    assert ended.exit_code == 0
    assert lines == ["['12', 'toy', '$(NO)', '$(A)']"]
    assert expand("$$$(A)", {"A": "x"}) == "$x"


def test_an_empty_dir_is_shared_by_init_and_base() -> None:
    mount = [k8s.V1VolumeMount(name="scratch", mount_path="/scratch")]
    write = "import sys; open(sys.argv[1], 'w').write('kept')"
    given = pod("import sys; print(open(sys.argv[1]).read())", args=["/scratch/x"], volume_mounts=mount)
    given.spec.volumes = [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource())]
    given.spec.init_containers = [
        k8s.V1Container(
            name="init", command=["python", "-c", write], args=["/scratch/x"], volume_mounts=mount
        )
    ]
    assert run(given)[1] == ["kept"]


def test_a_failed_init_container_ends_the_pod() -> None:
    given = pod("print('never')")
    given.spec.init_containers = [k8s.V1Container(name="init", command=["python", "-c", "exit(7)"])]
    ended, lines = run(given)
    assert (ended.exit_code, lines) == (7, [])


SECRET = k8s.V1EnvVar(
    "P", value_from=k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="s", key="k"))
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": None}, "no command"),
        ({"env": [SECRET]}, "variable P comes from a secret"),
        ({"env_from": [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource("s"))]}, "envFrom"),
        ({"volume_mounts": [k8s.V1VolumeMount(name="v", mount_path="/v")]}, "which is no volume of the pod"),
    ],
)
def test_what_only_a_cluster_has_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotRunLocally, match=said):
        run(pod(**change))


def test_side_containers_and_claims_are_refused() -> None:
    given = pod()
    given.spec.containers.append(k8s.V1Container(name="proxy"))
    with pytest.raises(CannotRunLocally, match="side containers \\(proxy\\)"):
        run(given)
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name="c")
    given = pod(volume_mounts=[k8s.V1VolumeMount(name="v", mount_path="/v")])
    given.spec.volumes = [k8s.V1Volume(name="v", persistent_volume_claim=claim)]
    with pytest.raises(CannotRunLocally, match="volume v is something that only a cluster has"):
        run(given)


def test_the_pods_own_deadline() -> None:
    started = time.monotonic()
    ended, _ = run(pod("import time; print('up'); time.sleep(60)", active_deadline_seconds=1))
    assert ended.exit_code == 143
    assert ended.stopped == "ran past its deadline (active_deadline_seconds)"
    assert time.monotonic() - started < 5


def test_stop_from_another_thread() -> None:
    local = LocalPod(pod("import time; time.sleep(60)"), log=lambda line: None)
    threading.Timer(0.5, lambda: local.stop("was stopped by Airflow")).start()
    ended = local.run()
    assert (ended.exit_code, ended.stopped) == (143, "was stopped by Airflow")


def test_an_exception_in_the_wait_ends_the_pod_first(monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalPod(pod("import time; time.sleep(60)"), log=lambda line: None)

    def interrupted(process: Any, deadline: Any) -> int:
        time.sleep(0.3)
        raise TimeoutError("execution_timeout")

    monkeypatch.setattr(local, "_wait", interrupted)
    with pytest.raises(TimeoutError):
        local.run()
    assert local._process is not None
    assert local._process.poll() is not None
