"""Scheduler, kubelet and Job controller in a few lines: what becomes of pods that somebody makes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.mock_kubernetes.objects import LOOKS_EVERY_S, PODS, Key, Object, Objects, now


@dataclass
class Life:
    """What becomes of a pod.

    Args:
        scheduled: whether a node is found, `why_not` says why not.
        waiting: reason and message of a container that does not start.
        pause: seconds after each of its lines.
        status: whether it ever gets one.
        holds: it runs until `goes_on` is set.
        queues: it waits in a queue of Kueue's and is never admitted; its Job makes no pods then.
    """

    exit_code: int = 0
    reason: str = ""
    lines: tuple[str, ...] = ("working", "done")
    pause: float = 0.0
    scheduled: bool = True
    why_not: str = "0/1 nodes are available: 1 Insufficient memory."
    waiting: tuple[str, str] | None = None
    status: bool = True
    holds: bool = False
    queues: bool = False
    goes_on: threading.Event = field(default_factory=threading.Event)


async def live(objects: Objects, pod: Key, life: Life, log: list[str]) -> None:
    """Scheduler and kubelet of one pod, whose lines go into `log`."""
    if not life.status:
        return
    node = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
    if life.queues:
        gates = "Scheduling is blocked due to non-empty scheduling gates"
        node |= {"status": "False", "reason": "SchedulingGated", "message": gates}
    elif not life.scheduled:
        node |= {"status": "False", "reason": "Unschedulable", "message": life.why_not}
    objects.change(pod, {"status": {"conditions": [node]}})
    if life.queues or not life.scheduled:
        return
    await asyncio.sleep(0.05)
    if life.waiting:
        reason, message = life.waiting
        _show(objects, pod, {"waiting": {"reason": reason, "message": message}})
        return
    _show(objects, pod, {"running": {"startedAt": now()}}, "Running")
    for line in life.lines:
        log.append(f"{now()} {line}")
        await asyncio.sleep(life.pause)
    while life.holds and not life.goes_on.is_set():
        await asyncio.sleep(LOOKS_EVERY_S)
    ended = {
        "exitCode": life.exit_code,
        "reason": life.reason or ("Error" if life.exit_code else "Completed"),
        "message": "\n".join(life.lines) if life.exit_code else "",
        "finishedAt": now(),
    }
    _show(objects, pod, {"terminated": ended}, "Failed" if life.exit_code else "Succeeded")


async def control(objects: Objects, job: Key, begin: Callable[[Key], None]) -> None:
    """The Job controller: as many pods as nodes, each of which `begin` lets live, and the Job's end."""
    held = objects.get(job)
    mine, template = held["metadata"], held["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": mine["name"], "uid": mine["uid"]}
    names = [f"{mine['name']}-{number}-x" for number in range(held["spec"]["parallelism"])]
    for number, name in enumerate(names):
        labels = {
            **template["metadata"]["labels"],
            "batch.kubernetes.io/job-name": mine["name"],
            "batch.kubernetes.io/job-completion-index": str(number),
        }
        about = {"name": name, "labels": labels, "ownerReferences": [owner]}
        pod = PODS, job[1], name
        objects.put(pod, {"metadata": about, "spec": template["spec"]})
        begin(pod)
    while objects.has(job):
        await asyncio.sleep(LOOKS_EVERY_S)
        phases = [one["status"]["phase"] for name, one in objects.there(PODS).items() if name in names]
        if "Failed" in phases:
            end = {"type": "Failed", "reason": "BackoffLimitExceeded", "message": "limit"}
        elif phases == ["Succeeded"] * len(names):
            end = {"type": "Complete"}
        else:
            continue
        objects.change(job, {"status": {"conditions": [{**end, "status": "True"}]}})
        return


def _show(objects: Objects, pod: Key, state: Object, phase: str = "Pending") -> None:
    base: dict[str, Any] = {"name": "base", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    objects.change(pod, {"status": {"phase": phase, "containerStatuses": [{**base, "state": state}]}})
