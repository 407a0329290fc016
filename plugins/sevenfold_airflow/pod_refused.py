"""Why the API server did not take a request: one sentence with the remedy, and whether to try again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sevenfold_airflow.pods import said_by

BASE = "include/kubernetes/base"
REMEDIES = (
    ("exceeded quota", "wait for others to end, or raise the namespace's ResourceQuota", True),
    ("being terminated", "wait until the namespace is gone, then create it anew", True),
    ("violates PodSecurity", "take that out of the template or the operator's arguments", False),
    ("no PriorityClass", f"apply {BASE}, or take priorityClassName out of the template", False),
    ("error looking up service account", f"apply {BASE}, which has the account", False),
    ("usage per", "ask for what the namespace's LimitRange allows in model.yaml, resources", False),
    (
        "denied the request",
        "an admission policy of the cluster is against it: ask who runs the cluster",
        False,
    ),
    ("cannot ", f"apply {BASE}, which has the roles of Airflow's accounts", False),
)
"""What the API server's sentence contains, what to do about it, and whether it may pass by itself."""


@dataclass(frozen=True)
class Refusal:
    """A sentence for people, and whether Airflow should try again."""

    sentence: str
    retry: bool


def why_refused(task_id: str, error: Any) -> Refusal | None:
    """Explains an ApiException; None when it says nothing of its own (a pod that is not there)."""
    said = str(said_by(error).get("message") or error.reason or "").strip().rstrip(".")
    if error.status == 403:
        found = (one for one in REMEDIES if one[0] in said)
        _, remedy, retry = next(found, ("", f"apply {BASE}", False))
        return Refusal(f"the cluster does not allow {task_id}: {said}: {remedy}", retry)
    if error.status == 404 and "namespaces" in said:
        return Refusal(f"there is no place for {task_id}: {said}: apply {BASE} first", False)
    if error.status == 401:
        login = "the account or kubeconfig of connection kubernetes_default"
        return Refusal(f"the cluster does not know who asks for {task_id} ({said}): renew {login}", True)
    if error.status == 422:
        return Refusal(f"the cluster cannot make sense of the pod of {task_id}: {said}", False)
    if error.status in (409, 429) or error.status >= 500:
        again = "it was asked several times, and is asked again in the next try"
        return Refusal(f"the API server did not serve {task_id} ({error.status} {said}): {again}", True)
    return None


def unreachable(task_id: str, error: Exception) -> Refusal:
    """Explains that the API server did not answer at all."""
    reason = getattr(error, "reason", None) or error
    return Refusal(
        f"the API server does not answer {task_id} ({type(error).__name__}: {reason}): look whether it is up "
        "and whether connection kubernetes_default has its address",
        True,
    )
