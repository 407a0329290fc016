"""What Kueue did with a pod or a Job that has a queue, by its events: its objects are not Airflow's to read.

Kueue makes a Workload of each and names it `<kind>-<name>-<hash>`. What that lacks is a warning at the
Workload, why it was stopped an event at the pod itself; of a queue that is not there Kueue says nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sevenfold.kubernetes.pod_end import stopped_by_kueue

QUEUE = "kueue.x-k8s.io/queue-name"
"""Label by which Kueue takes a pod or a job into a queue; without Kueue it means nothing."""


def waits_in_queue(pod: Any) -> bool:
    """Whether it has a queue, and nobody has admitted it yet."""
    conditions = (pod.status.conditions if pod.status else None) or []
    gated = any(one.type == "PodScheduled" and one.reason == "SchedulingGated" for one in conditions)
    return gated and QUEUE in (pod.metadata.labels or {})


def not_admitted(client: Any, task_id: str, kind: str, metadata: Any) -> str:
    """Why a pod or a Job still waits in its queue, and the remedy.

    Args:
        client: the core API.
        kind: "pod" or "job".
        metadata: its own.
    """
    namespace, queue = metadata.namespace, (metadata.labels or {}).get(QUEUE, "none")
    workload = f"{kind}-{metadata.name}-"
    of_workloads = _events(client, namespace, "involvedObject.kind=Workload")
    said = [
        event.message
        for event in of_workloads
        if event.type == "Warning" and event.involved_object.name.startswith(workload)
    ]
    late = f"{task_id} was not admitted to queue {queue} in time"
    if said:
        return (
            f"{late} ({_one_line(said[-1])}): free quota there, raise that of its ClusterQueue, or ask for "
            "less in model.yaml, resources"
        )
    return (
        f"{late}, and Kueue does not say that quota is short: look whether namespace {namespace} has this "
        "LocalQueue and its ClusterQueue is active, or correct queues in connection kubernetes_default"
    )


def gave_way(client: Any, task_id: str, name: str, namespace: str) -> str | None:
    """The sentence for a pod that Kueue has stopped, and that is gone; None if it has not."""
    events = _events(client, namespace, f"involvedObject.name={name}")
    said = [event.message for event in events if event.reason == "Stopped"]
    return stopped_by_kueue(task_id, said[-1]) if said else None


def _events(client: Any, namespace: str, selector: str) -> list[Any]:
    """Oldest first; none where they cannot be read: a sentence with less in it is better than none."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        found = client.list_namespaced_event(namespace, field_selector=selector).items
    except (ApiException, HTTPError):
        return []
    return sorted(found, key=lambda event: event.event_time or event.last_timestamp or _LONG_AGO)


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _one_line(message: str) -> str:
    return " ".join(message.split()).rstrip(".")
