"""The cluster of a kubeconfig, seen by the tests: objects made from include/kubernetes, and removed again.

Who runs them may make namespaces, priority classes, volumes and roles (cluster-admin may). Nothing is pulled,
resolved by name or routed to: all of it works on one node without DNS, ingress, registry or storage class.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).resolve().parents[2] / "include" / "kubernetes"
MARK = {"app.kubernetes.io/managed-by": "sevenfold-tests"}
MINE = ",".join(f"{label}={value}" for label, value in MARK.items())
FORGOTTEN = timedelta(hours=2)
"""No run of these tests takes so long: what is older was left by one that was killed."""
CPUS, MEMORY_GIB = 2, 6
"""The largest that one node has to have: two activities of training beside the testbed."""
STORAGE_CLASS = os.environ.get("SEVENFOLD_TEST_STORAGE_CLASS", "")
"""Of the volumes; empty: the cluster's default. `none`: folders of a node, as where there is no class."""


class Cluster:
    """What a kubeconfig leads to."""

    def __init__(self) -> None:
        from kubernetes import client, config, utils

        self.kubeconfig = os.environ["KUBECONFIG"]  # never whatever cluster somebody happens to use
        config.load_kube_config(self.kubeconfig)
        self.api = client.ApiClient()
        self.core, self.batch, self.rights = (
            kind(self.api) for kind in (client.CoreV1Api, client.BatchV1Api, client.RbacAuthorizationV1Api)
        )
        self._client, self._utils = client, utils
        self.namespaces: list[str] = []
        self.volumes: list[str] = []
        self.classes: list[str] = []

    def version(self) -> str:
        """Its version; an exception when nobody answers."""
        return str(self._client.VersionApi(self.api).get_code(_request_timeout=10).git_version)

    def check(self) -> None:
        """Says what there is; skips the tests where they may not, or no node has room for them."""
        asked = self._client.V1ResourceAttributes(verb="create", resource="namespaces")
        review = self._client.V1SelfSubjectAccessReview(
            spec=self._client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
        )
        rights = self._client.AuthorizationV1Api(self.api)
        if not rights.create_self_subject_access_review(review).status.allowed:
            pytest.skip("who is named in KUBECONFIG may not make namespaces: cluster-admin may")
        parse = self._utils.parse_quantity
        nodes = [one for one in self.core.list_node().items if not one.spec.unschedulable]
        room = {
            one.metadata.name: (
                parse(one.status.allocatable["cpu"]),
                parse(one.status.allocatable["memory"]) / 2**30,
            )
            for one in nodes
        }
        for name, (cpus, memory) in room.items():
            print(f"node {name}: {cpus:.1f} CPUs, {memory:.1f} GiB of memory")
        if not any(cpus >= CPUS and memory >= MEMORY_GIB for cpus, memory in room.values()):
            pytest.skip(f"no node has {CPUS} CPUs and {MEMORY_GIB} GiB of memory for pods")

    def make(self, made: dict[str, Any], namespace: str | None = None) -> None:
        """Makes an object, as a file of include/kubernetes has it; one that is there already stays."""
        made = {**made, "metadata": {**made["metadata"]}}
        made["metadata"]["labels"] = {**(made["metadata"].get("labels") or {}), **MARK}
        made["metadata"].pop("namespace", None)
        if namespace:
            made["metadata"]["namespace"] = namespace
        try:
            self._utils.create_from_dict(self.api, made, namespace=namespace or "default")
        except self._utils.FailToCreateError as error:
            if any(one.status != 409 for one in error.api_exceptions):
                raise
            return
        if made["kind"] == "PriorityClass":
            self.classes.append(made["metadata"]["name"])

    def make_namespace(self, name: str, restricted: bool = True) -> None:
        """Makes a namespace as include/kubernetes does, with Pod Security's level."""
        [made] = self.objects("base/namespace/namespace.yaml")
        made["metadata"]["name"] = name
        if not restricted:
            made["metadata"]["labels"] = {}
        self.make(made)
        self.namespaces.append(name)
        self.wait(lambda: self._has_account(name), f"namespace {name} has no default service account")

    def objects(self, path: str) -> list[dict[str, Any]]:
        """What a file of include/kubernetes holds."""
        return list(yaml.safe_load_all((KUBERNETES / path).read_text()))

    def make_claim(self, name: str, namespace: str, image: str, pull_policy: str) -> None:
        """Makes the claim of a volume that pods share: of a class, else a folder of a node.

        Args:
            image: has a shell, opens the folder for the pods and empties it at the end.
        """
        spec: dict[str, Any] = {"resources": {"requests": {"storage": "1Gi"}}}
        nodes = len(self.core.list_node().items)
        spec["accessModes"] = ["ReadWriteMany" if nodes > 1 else "ReadWriteOnce"]  # every class can give this
        if (wanted := self._storage_class()) is None:
            volume = self._make_volume(f"{namespace}-{name}", image, pull_policy)
            spec |= {"storageClassName": "", "volumeName": volume}
        elif wanted:
            spec["storageClassName"] = wanted
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
        self.make({**claim, "spec": spec}, namespace)

    def has_dns(self) -> bool:
        """Whether pods can ask for Services by name."""
        return bool(self.core.list_namespaced_service("kube-system", label_selector="k8s-app=kube-dns").items)

    def phase(self, pod: str, namespace: str) -> str:
        """How far a pod is."""
        return str(self.core.read_namespaced_pod(pod, namespace).status.phase)

    def _storage_class(self) -> str | None:
        """The class to ask for; empty: the default; None: there is none."""
        if STORAGE_CLASS:
            return None if STORAGE_CLASS == "none" else STORAGE_CLASS
        default = "storageclass.kubernetes.io/is-default-class"
        classes = self._client.StorageV1Api(self.api).list_storage_class().items
        has = any((one.metadata.annotations or {}).get(default) == "true" for one in classes)
        return "" if has else None

    def _make_volume(self, name: str, image: str, pull_policy: str) -> str:
        """A folder of a node as a volume; a pod there opens it, and empties it when it is deleted."""
        space = f"{name}-volume"
        self.make_namespace(space, restricted=False)
        host = {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"}
        keep = (
            "trap 'rm -rf /folder/* /folder/.[!.]*; exit' TERM; chgrp 10001 /folder; chmod 2775 /folder; "
            "while :; do sleep 1; done"
        )
        keeper = {
            "name": "keeper",
            "image": image,
            "imagePullPolicy": pull_policy,
            "command": ["sh", "-c", keep],
            "securityContext": {"runAsUser": 0},
            "volumeMounts": [{"name": "folder", "mountPath": "/folder"}],
        }
        spec = {"volumes": [{"name": "folder", "hostPath": host}], "containers": [keeper]}
        self.make({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "keeper"}, "spec": spec}, space)
        pod = self.running("keeper", space)
        here = {"key": "kubernetes.io/hostname", "operator": "In"}
        node = self.core.read_node(pod.spec.node_name).metadata.labels["kubernetes.io/hostname"]
        where = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{**here, "values": [node]}]}]}}
        modes = ["ReadWriteOnce", "ReadWriteMany"]
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": modes,
            "nodeAffinity": where,
            "hostPath": host,
        }
        self.volumes.append(name)
        self.make(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume}
        )
        return name

    def running(self, name: str, namespace: str, seconds: float = 300) -> Any:
        """A pod once all its containers are ready; fails with the reason why they are not."""
        waits = ("ContainerCreating", "PodInitializing", "")
        why = "nobody has looked at it"

        def ready() -> Any:
            nonlocal why
            pod = self.core.read_namespaced_pod(name, namespace)
            states = pod.status.container_statuses or []
            waiting = [one.state.waiting for one in states if one.state and one.state.waiting]
            stuck = [one for one in waiting if (one.reason or "") not in waits]
            assert not stuck, f"pod {name} does not start: {stuck[0].reason}: {stuck[0].message}"
            ended = pod.status.phase in ("Failed", "Succeeded")
            assert not ended, f"pod {name} has ended: {self.log(pod)[-1500:]}"
            unmet = [one for one in pod.status.conditions or [] if one.status != "True"]
            why = "; ".join(f"{one.type}: {one.message or one.reason}" for one in unmet)
            return pod if states and all(one.ready for one in states) else None

        return self.wait(ready, lambda: f"pod {name} in {namespace} is not ready: {why}", seconds)

    def pods(self, namespace: str, **labels: str) -> list[Any]:
        """The pods with these labels, oldest first."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self.core.list_namespaced_pod(namespace, label_selector=selector).items
        return sorted(found, key=lambda pod: pod.metadata.creation_timestamp)

    def log(self, pod: Any) -> str:
        """What a pod has written so far; empty before it runs."""
        with contextlib.suppress(self._client.ApiException):
            return str(self.core.read_namespaced_pod_log(pod.metadata.name, pod.metadata.namespace))
        return ""

    def wait(self, holds: Callable[[], Any], otherwise: str | Callable[[], str], seconds: float = 120) -> Any:
        """What `holds` returns once it is something; fails the test when that takes too long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := holds():
                return found
            time.sleep(0.5)
        pytest.fail(f"{otherwise if isinstance(otherwise, str) else otherwise()} (after {seconds:.0f} s)")

    def clean_up(self) -> None:
        """Removes what the tests have made, and waits until it is gone."""
        print(f"\nremoves {', '.join(self.namespaces)}", flush=True)
        folders = [
            one for one in self.namespaces if one.endswith("-volume")
        ]  # emptied after who writes there
        for names in (set(self.namespaces) - set(folders), folders):
            for name in names:
                self._delete_namespace(name)
            until = time.monotonic() + 180
            while any(map(self._exists, names)) and time.monotonic() < until:
                time.sleep(1)
        for name in self.volumes:
            with contextlib.suppress(self._client.ApiException):
                self.core.delete_persistent_volume(name)
        left = [name for name in self.namespaces if self._exists(name)]
        assert not left, f"namespaces {', '.join(left)} are still there"
        if not self._runs():  # other runs of the tests, which may use them
            for name in self.classes:
                with contextlib.suppress(self._client.ApiException):
                    self._client.SchedulingV1Api(self.api).delete_priority_class(name)

    def sweep(self) -> None:
        """Removes what runs that were killed have left, and says what younger ones may have."""
        now = datetime.now(UTC)
        for one in self._runs():
            name, age = one.metadata.name, now - one.metadata.creation_timestamp
            if age > FORGOTTEN:
                print(f"removes {name}, which a run of these tests that was killed has left")
                self._delete_namespace(name)
            else:
                print(f"{name} is of another run, which goes on or was killed; it goes after {FORGOTTEN}")
        for volume in self.core.list_persistent_volume(label_selector=MINE).items:
            if now - volume.metadata.creation_timestamp > FORGOTTEN:
                self.core.delete_persistent_volume(volume.metadata.name)

    def _runs(self) -> list[Any]:
        """The namespaces of runs of the tests that are not being removed."""
        found = self.core.list_namespace(label_selector=MINE).items
        return [one for one in found if one.metadata.deletion_timestamp is None]

    def _delete_namespace(self, name: str) -> None:
        with contextlib.suppress(self._client.ApiException):
            self.core.delete_namespace(name)

    def _exists(self, namespace: str) -> bool:
        try:
            self.core.read_namespace(namespace)
        except self._client.ApiException as error:
            return bool(error.status != 404)
        return True

    def _has_account(self, namespace: str) -> bool:
        with contextlib.suppress(self._client.ApiException):
            self.core.read_namespaced_service_account("default", namespace)
            return True
        return False


def found() -> Iterator[Cluster]:
    """The cluster, cleaned up at the end, also after a failure; skips the test where none answers."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG names none")
    try:
        cluster = Cluster()
        version = cluster.version()
    except Exception as error:  # of a missing file, an unknown context, a refused connection ...
        pytest.skip(f"no cluster answers: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
    print(f"\nKubernetes {version}")
    cluster.check()
    cluster.sweep()
    before = [signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield cluster
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
        cluster.clean_up()


def _interrupt(*_: object) -> None:
    """Also whom a CI system stops cleans up."""
    raise KeyboardInterrupt
