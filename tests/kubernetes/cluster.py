"""The cluster of a kubeconfig, seen by the tests: objects made from include/kubernetes, and removed again.

Who runs them may make namespaces, priority classes and roles. Nothing is pulled, resolved by name or routed
to: all of it works on one node without DNS, ingress, registry or storage class.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).resolve().parents[2] / "include" / "kubernetes"
MARK = {"app.kubernetes.io/managed-by": "sevenfold-tests"}


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

    def version(self) -> str:
        """Its version; an exception when nobody answers."""
        return str(self._client.VersionApi(self.api).get_code(_request_timeout=10).git_version)

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

    def has_storage(self) -> bool:
        """Whether there is a default storage class."""
        classes = self._client.StorageV1Api(self.api).list_storage_class().items
        default = "storageclass.kubernetes.io/is-default-class"
        return any((one.metadata.annotations or {}).get(default) == "true" for one in classes)

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

    def wait(self, holds: Callable[[], Any], otherwise: str, seconds: float = 120) -> Any:
        """What `holds` returns once it is something; fails the test when that takes too long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := holds():
                return found
            time.sleep(0.5)
        pytest.fail(f"{otherwise} (after {seconds:.0f} s)")

    def clean_up(self) -> None:
        """Removes what the tests have made, and waits until it is gone."""
        for name in self.namespaces:
            with contextlib.suppress(self._client.ApiException):
                self.core.delete_namespace(name)
        until = time.monotonic() + 120
        while any(map(self._exists, self.namespaces)) and time.monotonic() < until:
            time.sleep(1)
        for name in self.volumes:
            with contextlib.suppress(self._client.ApiException):
                self.core.delete_persistent_volume(name)
        left = [name for name in self.namespaces if self._exists(name)]
        assert not left, f"namespaces {', '.join(left)} are still there"

    def _exists(self, namespace: str) -> bool:
        try:
            self.core.read_namespace(namespace)
        except self._client.ApiException:
            return False
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
    print(f"Kubernetes {version}")
    try:
        yield cluster
    finally:
        cluster.clean_up()
