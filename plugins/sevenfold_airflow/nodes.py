"""One activity on several nodes: on a cluster an Indexed Job whose pods find each other, here one process.

The Job is Kubernetes' own: it numbers the pods (JOB_COMPLETION_INDEX) and gives each a host name; torchrun in
each of them meets the others at the first one (sevenfold.training.launch). The headless service `nodes` of
the environment's namespace makes the host names known (include/kubernetes/base/environments/training).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk.exceptions import AirflowException

from sevenfold_airflow.pod import PodOperator

SERVICE = "nodes"


class NodesOperator(PodOperator, KubernetesJobOperator):
    """Runs one activity on several nodes to its end; every pod gets the same program.

    The Job itself starts no pod anew: a try that fails is Airflow's to repeat, and training goes on from its
    checkpoint.

    Args:
        nodes: pods that work together, at least 2.
    """

    def __init__(self, *, nodes: int, **arguments: Any) -> None:
        job: dict[str, Any] = {
            "completion_mode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoff_limit": 0,
            "wait_until_job_complete": True,
        }
        super().__init__(**job | arguments)

    def build_job_request_obj(self, context: Any = None) -> Any:
        """The Job, by the provider's own builder, with pods that know their number and the first of them."""
        self.prepare()
        self.subdomain = SERVICE
        if not self.namespace and self.full_pod_spec is not None:
            self.namespace = self.full_pod_spec.metadata.namespace
        job = super().build_job_request_obj(context)
        job.spec.template.metadata.name = None  # the Job names its pods
        self.add_variables(job.spec.template.spec)
        self._add_rendezvous(job.spec.template.spec)
        return job

    def get_pods(self, pod_request_obj: Any, context: Any, *, exclude_checked: bool = True) -> Sequence[Any]:
        """The Job's pods, once its controller has made them; the provider asks without waiting in between."""
        until = time.monotonic() + self.startup_timeout_seconds
        while True:
            try:
                return super().get_pods(pod_request_obj, context, exclude_checked=exclude_checked)
            except AirflowException:
                if time.monotonic() > until:
                    raise
                time.sleep(self.startup_check_interval_seconds)

    def _add_rendezvous(self, spec: Any) -> None:
        from kubernetes.client import models as k8s

        named = k8s.V1ObjectFieldSelector(field_path="metadata.labels['batch.kubernetes.io/job-name']")
        container = next(one for one in spec.containers if one.name == self.base_container_name)
        container.env = [
            *(container.env or []),
            k8s.V1EnvVar("JOB_NAME", value_from=k8s.V1EnvVarSource(field_ref=named)),
            k8s.V1EnvVar("MASTER_ADDR", f"$(JOB_NAME)-0.{SERVICE}"),
        ]
