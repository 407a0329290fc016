"""One activity on several nodes: on a cluster an Indexed Job whose pods find each other, here one process.

The Job is Kubernetes' own: it numbers the pods (JOB_COMPLETION_INDEX) and gives each a host name; torchrun in
each of them meets the others at the first one (sevenfold.training.launch). The headless service `nodes` of
the environment's namespace makes the host names known (include/kubernetes/base/environments/training).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk.exceptions import AirflowException

from sevenfold_airflow.kueue import QUEUE, not_admitted
from sevenfold_airflow.nodes_trigger import OF_JOB, NodesTrigger, outcome
from sevenfold_airflow.pod import PodOperator
from sevenfold_airflow.pods import already_exists, is_same

SERVICE = "nodes"


class NodesOperator(PodOperator, KubernetesJobOperator):
    """Runs one activity on several nodes to its end; every pod gets the same program.

    The Job itself starts no pod anew: a try that fails is Airflow's to repeat, and training goes on from its
    checkpoint. A task that was interrupted finds its Job again by its labels. A Job that succeeded, or that
    nobody waits for any longer, is deleted with its pods; one that failed stays for reading until its TTL.

    (The provider's Job operator does none of these: it starts a second Job, shows the log only at the end,
    knows no execution_timeout while deferred, and leaves the Job behind when a deferred task is stopped. Here
    it builds the Job; `NodesTrigger` follows it, in the triggerer or in the worker.)

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
            "on_kill_propagation_policy": "Background",
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
        job.metadata.labels = {**job.spec.template.metadata.labels}
        job.spec.pod_replacement_policy = "Failed"  # a node that Kueue stopped ends before it begins anew
        if queue := self.pod_settings.queues.get(self.environment):
            job.metadata.labels[QUEUE] = queue  # Kueue starts all its pods or none
        if self.ttl_seconds_after_finished is None:
            job.spec.ttl_seconds_after_finished = int(self.pod_settings.keep_failed_hours * 3600)
        self.add_variables(job.spec.template.spec)
        self._add_rendezvous(job.spec.template.spec)
        return job

    def execute(self, context: Any) -> Any:
        """Runs the Job where this cluster's settings say."""
        if self.runs_locally:
            return self._execute_locally(context)
        self.apply_settings()
        with self._explained():
            self.name = self._set_name(self.name)
            self.job_request_obj = self.build_job_request_obj(context)
            self.sweep(self.job_request_obj.metadata.namespace)
            self.job = self.find_job(context) or self.create_job(self.job_request_obj)
            trigger = self._trigger(context)
            if self.deferrable:
                # Airflow's own timeout comes after the trigger's, which deletes the Job.
                late = self.execution_timeout + timedelta(minutes=1) if self.execution_timeout else None
                self.defer(trigger=trigger, method_name="trigger_reentry", timeout=late)
            return self.trigger_reentry(context, asyncio.run(outcome(trigger)))

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Continues after the Job has ended, or was waited for too long.

        Raises:
            AirflowException: it did not end well, with why.
        """
        self.apply_settings()
        with self._explained():
            if event["status"] == "vanished":
                raise AirflowException(_vanished(self.task_id, event["namespace"], event["name"]))
            job = self.hook.get_job(event["name"], event["namespace"])
            self.job = job
            pods = self._pods_of(job)
            if event["status"] == "success":
                self._delete(job)
                return None
            if event["status"] == "trouble":  # of the API server or the triggerer: the Job may go on
                raise AirflowException(event["message"])
            self._mark_as_seen(job)
            if event["status"] == "timeout":
                self._delete(job)
            if job.spec.suspend:
                raise AirflowException(not_admitted(self.client, self.task_id, "job", job.metadata))
            error = AirflowException(f"{self.task_id}: {event['message']}")
            if (first := first_to_fail(pods)) is not None:
                self.raise_for(first, error)
            raise error

    def find_job(self, context: Any) -> Any:
        """The Job of an interrupted try, be it that it has ended meanwhile; None if there is none."""
        if not self.reattach_on_restart:
            return None
        wanted: Any = self.job_request_obj
        jobs = self._list_jobs(wanted.metadata.namespace, self._build_find_pod_label_selector(context))
        going = [job for job in jobs if job.metadata.deletion_timestamp is None]
        if not going:
            return None
        newest = max(going, key=lambda job: job.metadata.creation_timestamp)
        self.log.info("Found Job %s of an earlier try: it goes on", newest.metadata.name)
        return newest

    def create_job(self, job_request_obj: Any) -> Any:
        """Creates the Job, or takes the one that an earlier request of this very try has made."""
        from kubernetes.client import ApiException

        try:
            self.hook.create_job(job=job_request_obj)
        except ApiException as error:
            if not already_exists(error):
                raise
            there = self.hook.get_job(job_request_obj.metadata.name, job_request_obj.metadata.namespace)
            if not is_same(there, job_request_obj):
                raise
        return job_request_obj

    def on_kill(self) -> None:
        """Deletes the Job with its pods when the task is stopped or times out."""
        if self._local is not None:
            self._local.stop("was stopped by Airflow")
            return
        self._killed = True
        if self.job is not None:
            self._delete(self.job)

    @property
    def pod(self) -> None:
        """None: a Job has several. (The provider's own is deprecated, and fails before there are any.)"""

    @pod.setter
    def pod(self, value: Any) -> None: ...

    @cached_property
    def _batch(self) -> Any:
        return self.hook.batch_v1_client

    def _trigger(self, context: Any) -> NodesTrigger:
        job: Any = self.job
        hook: Any = self.hook
        until = None
        if self.execution_timeout is not None and (began := getattr(context["ti"], "start_date", None)):
            until = (began + self.execution_timeout).timestamp()
        return NodesTrigger(
            job_name=job.metadata.name,
            job_namespace=job.metadata.namespace,
            base_container_name=self.base_container_name,
            kubernetes_conn_id=self.kubernetes_conn_id,
            connection_extras=hook.conn_extras if self.kubernetes_conn_id else None,
            cluster_context=self.cluster_context,
            in_cluster=self.in_cluster,
            poll_interval=float(self.poll_interval),
            log_interval=float(self.logging_interval or 0),
            schedule_timeout=self.schedule_timeout_seconds,
            startup_timeout=self.startup_timeout_seconds,
            until=until,
        )

    @generic_api_retry  # type: ignore[untyped-decorator]
    def _list_jobs(self, namespace: str, selector: str) -> list[Any]:
        found: list[Any] = self._batch.list_namespaced_job(namespace, label_selector=selector).items
        return found

    @generic_api_retry  # type: ignore[untyped-decorator]
    def _pods_of(self, job: Any) -> list[Any]:
        selector = f"{OF_JOB}={job.metadata.name}"
        pods = self.client.list_namespaced_pod(job.metadata.namespace, label_selector=selector)
        return list(pods.items)

    @generic_api_retry  # type: ignore[untyped-decorator]
    def _mark_as_seen(self, job: Any) -> None:
        """The next try starts a Job of its own instead of finding this one."""
        label = {"metadata": {"labels": {self.POD_CHECKED_KEY: "True"}}}
        self._batch.patch_namespaced_job(job.metadata.name, job.metadata.namespace, label)

    def _delete(self, job: Any) -> None:
        from kubernetes.client import ApiException

        @generic_api_retry  # type: ignore[untyped-decorator]
        def delete() -> None:
            self._batch.delete_namespaced_job(
                job.metadata.name,
                job.metadata.namespace,
                propagation_policy=self.on_kill_propagation_policy,
            )

        try:
            delete()
            self.log.info("Deleted Job %s", job.metadata.name)
        except ApiException as error:
            if error.status != 404:
                self.log.warning("Job %s was not deleted: %s", job.metadata.name, error.reason)

    def _add_rendezvous(self, spec: Any) -> None:
        from kubernetes.client import models as k8s

        named = k8s.V1ObjectFieldSelector(field_path="metadata.labels['batch.kubernetes.io/job-name']")
        container = next(one for one in spec.containers if one.name == self.base_container_name)
        container.env = [
            *(container.env or []),
            k8s.V1EnvVar("JOB_NAME", value_from=k8s.V1EnvVarSource(field_ref=named)),
            k8s.V1EnvVar("MASTER_ADDR", f"$(JOB_NAME)-0.{SERVICE}"),
        ]


def first_to_fail(pods: list[Any]) -> Any:
    """The pod whose end explains the others': the first that ended badly, else one that does not run.

    (When one node fails, the Job ends the others, which then look as if they had been killed.)
    """
    ended = [(at, pod) for pod in pods for at in _bad_ends(pod)]
    if ended:
        return min(ended, key=lambda one: one[0])[1]
    waiting = [pod for pod in pods if pod.status is not None and pod.status.phase == "Pending"]
    return next(iter(waiting), None)


def _bad_ends(pod: Any) -> list[Any]:
    states = [status.state.terminated for status in pod.status.container_statuses or [] if status.state]
    return [
        state.finished_at for state in states if state is not None and state.exit_code and state.finished_at
    ]


def _vanished(task_id: str, namespace: str, name: str) -> str:
    return (
        f"Job {name} of {task_id} has vanished from namespace {namespace}, and nobody saw it end: it was "
        "deleted. It is tried again, and training goes on from its checkpoint"
    )
