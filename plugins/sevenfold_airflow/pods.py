"""The provider's PodManager with what it lacks: a creation whose answer was lost is no failure."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager


class Pods(PodManager):
    """Creates pods and follows them."""

    def run_pod_async(self, pod: Any, **more: Any) -> Any:
        """Creates the pod, or takes the one that an earlier request of this very try has made.

        (A creation that was answered by a 500, or by nothing, may have happened. The provider repeats it,
        meets "already exists", repeats that too, and gives up: PodManager.create_pod with generic_api_retry.)
        """
        from kubernetes.client import ApiException

        try:
            return super().run_pod_async(pod, **more)
        except ApiException as error:
            if not already_exists(error):
                raise
            there = self._client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
            if not is_same(there, pod):
                raise
            self.log.info("Pod %s exists already: an earlier request has made it", pod.metadata.name)
            return there


def already_exists(error: Any) -> bool:
    """Whether an object of this name exists; other conflicts (a quota that is written just now) go by."""
    return error.status == 409 and said_by(error).get("reason") == "AlreadyExists"


def is_same(there: Any, wanted: Any) -> bool:
    """Whether it was made by the same try of the same task."""
    labels, own = there.metadata.labels or {}, wanted.metadata.labels or {}
    return all(labels.get(name) == own.get(name) for name in ("dag_id", "task_id", "run_id", "try_number"))


def said_by(error: Any) -> dict[str, Any]:
    """The API server's Status object, {} when it sent none."""
    try:
        said = json.loads(error.body)
    except (ValueError, TypeError):
        return {}
    return said if isinstance(said, dict) else {}
