"""Why a pod on a cluster did not end well: one sentence with what happened and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
CONFIGURE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
KILLED = 137
"""Exit code of a container that was ended by SIGKILL: 128 + 9."""


def why_it_ended(pod: Any, container: str, task_id: str, warnings: Sequence[str] = ()) -> str | None:
    """The sentence for a pod (V1Pod as the API server tells it); None if its status says nothing of its own.

    Looks at the causes from outside in: the pod was evicted or ran out of time, it found no node, its image
    or configuration is missing, its container was killed for memory, its program ended with an exit code.

    Args:
        warnings: events of the pod, "reason: message", oldest first; the last one says why it still waits.
    """
    status = pod.status if pod is not None else None
    if status is None:
        return None
    found = (_whole_pod, _unscheduled, _waiting, _terminated)
    sentences = (sentence for look in found for sentence in look(pod, container, task_id))
    return next(sentences, None) or _never_started(pod, task_id, warnings)


def _whole_pod(pod: Any, container: str, task_id: str) -> Iterator[str]:
    reason, message = pod.status.reason or "", (pod.status.message or "").strip().rstrip(".")
    if reason == "Evicted":
        yield (
            f"{task_id} was evicted from node {pod.spec.node_name}: {message}. It is tried again; if it "
            "happens again, ask for what it uses in model.yaml, resources"
        )
    if reason == "DeadlineExceeded":
        yield f"{task_id} ran past its deadline of {pod.spec.active_deadline_seconds} s and was ended"
    if reason in ("NodeLost", "NodeShutdown", "Terminated", "Shutdown"):
        yield f"{task_id} went down with its node {pod.spec.node_name} ({reason}); it is tried elsewhere"
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            yield (
                f"{task_id} was taken off node {pod.spec.node_name} ({condition.reason}: "
                f"{(condition.message or '').strip()}); it is tried again"
            )
        if condition.type == "TerminationTarget" and condition.status == "True":
            yield stopped_by_kueue(task_id, condition.message or condition.reason or "")


def stopped_by_kueue(task_id: str, why: str) -> str:
    """The sentence for a pod that gave way in its queue, without the paths of queues that Kueue adds."""
    reason = " ".join(why.split()).partition("; preemptor path")[0].rstrip(".")
    return f"Kueue stopped {task_id} ({reason}): it is tried again, and training goes on from its checkpoint"


def _unscheduled(pod: Any, container: str, task_id: str) -> Iterator[str]:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            why = (condition.message or condition.reason or "").strip().rstrip(".")
            if "persistentvolumeclaim" in why:
                yield (
                    f"{task_id} has a claim that is not there or not bound ({why}): create it in namespace "
                    f"{pod.metadata.namespace}, as include/kubernetes/ does"
                )
            yield (
                f"{task_id} found no node ({why}); it asks for {_resources(pod, container)}: add such a "
                "node, free one, or ask for less in model.yaml, resources"
            )


def _waiting(pod: Any, container: str, task_id: str) -> Iterator[str]:
    state = _state(pod, container)
    waiting = state.waiting if state is not None else None
    if waiting is None:
        return
    message = (waiting.message or "").strip().rstrip(".")
    if waiting.reason in PULL:
        image = next((c.image for c in pod.spec.containers if c.name == container), "its image")
        yield (
            f"{task_id} could not get image {image} ({waiting.reason}: {message}): push or import it, or "
            "correct images, registry, tag and image_pull_policy in connection kubernetes_default"
        )
    if waiting.reason in CONFIGURE:
        yield (
            f"{task_id} could not be started ({waiting.reason}: {message}): create what is missing in "
            f"namespace {pod.metadata.namespace}, or correct secrets in connection kubernetes_default"
        )


def _terminated(pod: Any, container: str, task_id: str) -> Iterator[str]:
    state = _state(pod, container)
    ended = state.terminated if state is not None else None
    if ended is None or not (ended.exit_code or ended.reason == "OOMKilled"):
        return
    last = _last_line(ended.message)
    if ended.reason == "OOMKilled":
        yield (
            f"{task_id} needed more memory than its limit of {_limit(pod, container)} and was killed "
            f"(OOMKilled): raise memory in model.yaml, resources; its last line: {last}"
        )
    elif ended.exit_code == KILLED:
        yield (
            f"{task_id} was killed by SIGKILL, from outside or for lack of memory on node "
            f"{pod.spec.node_name}; its last line: {last}"
        )
    else:
        yield f"{task_id} ended with exit code {ended.exit_code}: {last}"


def _never_started(pod: Any, task_id: str, warnings: Sequence[str]) -> str | None:
    if pod.status.phase != "Pending":
        return None
    if warnings:
        last = " ".join(warnings[-1].split()).rstrip(".")
        return (
            f"{task_id} did not start ({last}): create what is missing in namespace "
            f"{pod.metadata.namespace}, or look at node {pod.spec.node_name}"
        )
    return (
        f"{task_id} did not start on node {pod.spec.node_name} in time and nothing warned of it: its image "
        "may be large; raise start_seconds in connection kubernetes_default"
    )


def _state(pod: Any, container: str) -> Any:
    statuses = pod.status.container_statuses or []
    return next((status.state for status in statuses if status.name == container), None)


def _last_line(message: str | None) -> str:
    lines = [line for line in (message or "").splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing"


def _limit(pod: Any, container: str) -> str:
    own = next((c for c in pod.spec.containers if c.name == container), None)
    limits = (own.resources.limits or {}) if own is not None and own.resources is not None else {}
    return str(limits.get("memory", "none of its own"))


def _resources(pod: Any, container: str) -> str:
    own = next((c for c in pod.spec.containers if c.name == container), None)
    if own is None or own.resources is None:
        return "nothing in particular"
    asked = {**(own.resources.requests or {}), **(own.resources.limits or {})}
    return ", ".join(f"{amount} {name}" for name, amount in sorted(asked.items())) or "nothing in particular"
