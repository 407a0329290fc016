"""Follows one pod in the triggerer, by the provider's trigger, and shows all that it writes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager

from sevenfold_airflow.pod_log import PodLog


class PodTrigger(KubernetesPodTrigger):
    """Fires as the provider's own does; what it says of the log is the time of the last line shown.

    (The provider's says when it looked. It passes over the lines of the second that runs, and asks the next
    time from when it looked: those written in between are lost, up to a second of them at each look.)
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments from which any triggerer builds it again."""
        return f"{type(self).__module__}.{type(self).__name__}", super().serialize()[1]

    @cached_property
    def pod_manager(self) -> AsyncPodManager:
        """Asks the cluster about the pod."""
        return _Pods(async_hook=self.hook)


class _Pods(AsyncPodManager):
    _read: PodLog | None = None

    async def fetch_container_logs_before_current_sec(
        self, pod: Any, container_name: str, since_time: Any = None
    ) -> Any:
        """Shows what is new, that of the current second included; the time of the newest line."""
        self._read = self._read or PodLog(since_time)
        lines = await self._hook.read_logs(
            pod.metadata.name, pod.metadata.namespace, container_name, self._read.seconds()
        )
        for line in self._read.unseen(lines):
            self.log.info(line)
        return self._read.after
