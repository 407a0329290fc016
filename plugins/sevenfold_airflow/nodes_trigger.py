"""Follows a Job on several nodes to its end: its state, and what its pods write."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.utils.pod_manager import detect_pod_terminate_early_issues
from airflow.triggers.base import BaseTrigger, TriggerEvent

from sevenfold_airflow.pod_log import PodLog

OF_JOB = "batch.kubernetes.io/job-name"
NUMBER = "batch.kubernetes.io/job-completion-index"
TRIES = 5
"""Looks that may fail one after the other, each of them repeated by the provider's own rules."""


class NodesTrigger(BaseTrigger):
    """Fires once: the Job has succeeded, failed, vanished, or was waited for too long.

    Args:
        log_interval: seconds between two looks at what the pods have written; 0 looks once, at the end.
        schedule_timeout: seconds that a pod may wait for a node.
        startup_timeout: seconds that it may take from there to its start.
        until: when the task's own time is over, in seconds since 1970.
    """

    def __init__(
        self,
        job_name: str,
        job_namespace: str,
        base_container_name: str,
        kubernetes_conn_id: str | None = None,
        connection_extras: dict[str, Any] | None = None,
        cluster_context: str | None = None,
        in_cluster: bool | None = None,
        poll_interval: float = 5,
        log_interval: float = 15,
        schedule_timeout: float = 600,
        startup_timeout: float = 900,
        until: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "job_name": job_name,
            "job_namespace": job_namespace,
            "base_container_name": base_container_name,
            "kubernetes_conn_id": kubernetes_conn_id,
            "connection_extras": connection_extras,
            "cluster_context": cluster_context,
            "in_cluster": in_cluster,
            "poll_interval": poll_interval,
            "log_interval": log_interval,
            "schedule_timeout": schedule_timeout,
            "startup_timeout": startup_timeout,
            "until": until,
        }
        self.name, self.namespace = job_name, job_namespace
        self.container = base_container_name
        self.poll_interval, self.log_interval = poll_interval, log_interval
        self.schedule_timeout, self.startup_timeout, self.until = schedule_timeout, startup_timeout, until
        self._logs: defaultdict[str, PodLog] = defaultdict(PodLog)
        self._logged_at = time.monotonic()
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments from which any triggerer builds it again."""
        return f"{type(self).__module__}.{type(self).__name__}", dict(self.arguments)

    @cached_property
    def hook(self) -> AsyncKubernetesHook:
        """The cluster that the connection names."""
        return AsyncKubernetesHook(
            conn_id=self.arguments["kubernetes_conn_id"],
            connection_extras=self.arguments["connection_extras"],
            cluster_context=self.arguments["cluster_context"],
            in_cluster=self.arguments["in_cluster"],
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yields one event: status (success, failed, timeout, vanished or trouble) and message."""
        event = await self._follow()
        self._fired = True
        of = {"name": self.name, "namespace": self.namespace}
        yield TriggerEvent(of | event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Deletes the Job with its pods when somebody stops the deferred task."""
        if self._fired:
            return
        from kubernetes_asyncio.client import BatchV1Api

        self.log.info("Deleting Job %s in namespace %s", self.name, self.namespace)
        try:
            async with self.hook.get_conn() as connection:
                api = BatchV1Api(connection)
                await api.delete_namespaced_job(self.name, self.namespace, propagation_policy="Background")
        except Exception:
            self.log.exception("Job %s was not deleted", self.name)

    async def _follow(self) -> dict[str, str]:
        from kubernetes_asyncio.client import ApiException

        failed = 0
        while True:
            if self.until is not None and time.time() >= self.until:
                return {"status": "timeout", "message": "it reached its execution_timeout"}
            try:
                if event := await self._look():
                    return event
                failed = 0
            except ApiException as error:
                if error.status == 404:
                    return {"status": "vanished", "message": str(error.reason)}
                failed += 1
                if failed == TRIES or error.status in (401, 403):
                    return {
                        "status": "trouble",
                        "message": f"the API server says {error.status} {error.reason}",
                    }
                self.log.warning("Job %s was not looked at: %s %s", self.name, error.status, error.reason)
            except Exception as error:
                failed += 1
                if failed == TRIES:
                    return {"status": "trouble", "message": f"the API server cannot be reached: {error}"}
                self.log.warning("Job %s was not looked at: %s", self.name, error)
            await asyncio.sleep(self.poll_interval)

    async def _look(self) -> dict[str, str] | None:
        """What has become of the Job, None while it runs."""
        job, pods = await self._job(), await self._pods()
        ended = {one.type: one for one in job.status.conditions or [] if one.status == "True"}
        done = "Complete" in ended or "Failed" in ended
        if done or (self.log_interval and time.monotonic() - self._logged_at >= self.log_interval):
            self._logged_at = time.monotonic()
            for pod in pods:
                await self._show_log(pod)
        if "Complete" in ended:
            return {"status": "success", "message": "all nodes have done their part"}
        if "Failed" in ended:
            said = ended["Failed"]
            return {"status": "failed", "message": f"the Job failed ({said.reason}: {said.message})"}
        return next(filter(None, map(self._stuck, pods)), None)

    def _stuck(self, pod: Any) -> dict[str, str] | None:
        """Whether the pod will not start, or has not for too long."""
        if pod.status.phase != "Pending":
            return None
        if issue := detect_pod_terminate_early_issues(pod):
            return {"status": "timeout", "message": " ".join(issue.split())}
        since, limit = pod.metadata.creation_timestamp, self.schedule_timeout
        for condition in pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "True":
                since, limit = condition.last_transition_time or since, self.startup_timeout
        if (datetime.now(UTC) - since).total_seconds() < limit:
            return None
        return {"status": "timeout", "message": f"pod {pod.metadata.name} did not start within {limit:.0f} s"}

    @generic_api_retry  # type: ignore[untyped-decorator]
    async def _job(self) -> Any:
        """The Job itself: the hook asks for `jobs/status`, a right of its own that Airflow's role has not."""
        from kubernetes_asyncio.client import BatchV1Api

        async with self.hook.get_conn() as connection:
            return await BatchV1Api(connection).read_namespaced_job(self.name, self.namespace)

    @generic_api_retry  # type: ignore[untyped-decorator]
    async def _pods(self) -> list[Any]:
        from kubernetes_asyncio.client import CoreV1Api

        async with self.hook.get_conn() as connection:
            found = await CoreV1Api(connection).list_namespaced_pod(
                self.namespace, label_selector=f"{OF_JOB}={self.name}"
            )
        return list(found.items)

    async def _show_log(self, pod: Any) -> None:
        """What the pod has written since the last look."""
        from kubernetes_asyncio.client import ApiException

        if pod.status.phase == "Pending":
            return
        name = pod.metadata.name
        log = self._logs[name]
        try:
            lines = await self.hook.read_logs(name, self.namespace, self.container, log.seconds())
        except ApiException as error:
            self.log.warning("what pod %s wrote was not read: %s", name, error.reason)
            return
        number = (pod.metadata.labels or {}).get(NUMBER, name)
        for line in log.unseen(lines):
            self.log.info("[node %s] %s", number, line)


async def outcome(trigger: NodesTrigger) -> dict[str, Any]:
    """What the trigger fires, waited for here instead of in a triggerer."""
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise RuntimeError("the trigger ended without an event")
