"""How a pod on a cluster ended, in one sentence that says what to do."""

from __future__ import annotations

import re

import pytest
from kubernetes.client import models as k8s  # noqa: TID253
from tests.plugins.ended_pods import container, pod_that

from sevenfold.kubernetes.pod_end import why_it_ended

LAST = "out of rows"
MORE_URGENT = "Preempted to accommodate a workload (UID: 27) due to prioritization in the ClusterQueue"
ENDS = {
    "no node": (
        {"conditions": [k8s.V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable",
                                           message="0/3 nodes are available: 3 Insufficient gpu.")]},
        "found no node (0/3 nodes are available: 3 Insufficient gpu); it asks for 2Gi memory: add",
    ),
    "no image": (
        {"waiting": ("ImagePullBackOff", "Back-off pulling image")},
        "could not get image sevenfold/trainer:dev (ImagePullBackOff: Back-off pulling image): push",
    ),
    "no secret": (
        {"waiting": ("CreateContainerConfigError", 'secret "evidence" not found')},
        'CreateContainerConfigError: secret "evidence" not found): create what is missing in namespace ns',
    ),
    "no memory": (
        {"terminated": ("OOMKilled", 137)},
        "needed more memory than its limit of 2Gi and was killed (OOMKilled): raise memory in model.yaml",
    ),
    "killed": ({"terminated": ("Error", 137)}, f"was killed by SIGKILL, .* its last line: {LAST}"),
    "failed": ({"terminated": ("Error", 3)}, f"ended with exit code 3: {LAST}"),
    "evicted": (
        {"reason": "Evicted", "message": "The node was low on resource: memory."},
        "was evicted from node n1: The node was low on resource: memory. It is tried again",
    ),
    "deadline": ({"reason": "DeadlineExceeded"}, "ran past its deadline of 60 s and was ended"),
    "node gone": ({"reason": "NodeShutdown"}, "went down with its node n1 (NodeShutdown)"),
    "preempted": (
        {"conditions": [k8s.V1PodCondition(type="DisruptionTarget", status="True",
                                           reason="PreemptionByScheduler",
                                           message="preempting to accommodate a higher priority pod")]},
        "was taken off node n1 (PreemptionByScheduler: preempting",
    ),
    "preempted by Kueue": (
        {"conditions": [k8s.V1PodCondition(type="TerminationTarget", status="True",
                                           reason="WorkloadEvictedDueToPreempted",
                                           message=f"{MORE_URGENT}; preemptor path: /q")]},
        f"Kueue stopped train ({MORE_URGENT}): it is tried again, and training goes on from its checkpoint",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_a_pod_ended_is_one_sentence_with_its_remedy(case: str) -> None:
    given, expected = ENDS[case]
    given = dict(given)
    state = None
    if waiting := given.pop("waiting", None):
        state = k8s.V1ContainerState(
            waiting=k8s.V1ContainerStateWaiting(message=waiting[1], reason=waiting[0])
        )
    if terminated := given.pop("terminated", None):
        ended = k8s.V1ContainerStateTerminated(
            exit_code=terminated[1], reason=terminated[0], message=f"working\n{LAST}\n\n"
        )
        state = k8s.V1ContainerState(terminated=ended)
    sentence = why_it_ended(pod_that(*([container(state)] if state else []), **given), "base", "train")
    assert sentence is not None
    assert sentence.startswith(("train ", "Kueue stopped train "))
    assert expected in sentence or re.search(expected, sentence), sentence
    assert "\n" not in sentence


def test_a_pod_that_did_nothing_wrong_needs_no_sentence() -> None:
    done = k8s.V1ContainerStateTerminated(exit_code=0, reason="Completed")
    running = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
    assert why_it_ended(pod_that(container(k8s.V1ContainerState(terminated=done))), "base", "train") is None
    assert why_it_ended(pod_that(container(running)), "base", "train") is None
    assert why_it_ended(None, "base", "train") is None
