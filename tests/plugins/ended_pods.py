"""Pods as an API server tells how they are."""

from __future__ import annotations

from typing import Any

from kubernetes.client import models as k8s  # noqa: TID253


def container(state: k8s.V1ContainerState) -> k8s.V1ContainerStatus:
    return k8s.V1ContainerStatus(
        name="base", image="trainer", image_id="", ready=False, restart_count=0, state=state
    )


def pod_that(*statuses: k8s.V1ContainerStatus, **status: Any) -> k8s.V1Pod:
    limits = k8s.V1ResourceRequirements(limits={"memory": "2Gi"})
    base = k8s.V1Container(name="base", image="sevenfold/trainer:dev", resources=limits)
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="toy", namespace="ns"),
        spec=k8s.V1PodSpec(containers=[base], node_name="n1", active_deadline_seconds=60),
        status=k8s.V1PodStatus(container_statuses=list(statuses), **status),
    )
