"""One activity, one pod: on a cluster a pod, on a laptop the same pod as a local process.

The pod is built by the provider's own `build_pod_request_obj` in both cases, so that what a cluster will run
is what a laptop describes. Which of the two happens is a setting of the connection `kubernetes_default`,
never a branch in a DAG.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NoReturn

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodNotFoundException
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from urllib3.exceptions import HTTPError

from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.kubernetes.pod_end import why_it_ended
from sevenfold.settings import REPOSITORY, settings
from sevenfold_airflow.close import leave_word
from sevenfold_airflow.kueue import QUEUE, gave_way, not_admitted, waits_in_queue
from sevenfold_airflow.links import EvidenceLink, ReportLink
from sevenfold_airflow.local_pod import CannotRunLocally, Ended, LocalPod, signal_name
from sevenfold_airflow.pod_log import PodLog
from sevenfold_airflow.pod_refused import Refusal, unreachable, why_refused
from sevenfold_airflow.pod_settings import PodSettings
from sevenfold_airflow.pod_template import pod_template
from sevenfold_airflow.pod_trigger import PodTrigger
from sevenfold_airflow.pods import Pods

PLACES = {
    "/data": "SEVENFOLD_DATA",
    "/logs": "SEVENFOLD_LOGS",
    "/secrets": "SEVENFOLD_SECRETS",  # pragma: allowlist secret
}
"""Settings that say where a template's volumes are mounted."""
ENDED = ("Succeeded", "Failed")
"""Phases that a pod never leaves."""
AFTER_TIMEOUT = timedelta(minutes=10)
"""How much later than Airflow the cluster itself ends a pod that nobody ended."""


class PodOperator(KubernetesPodOperator):
    """Runs one activity to its end, streaming its log; its error sentence is the exception of a failed try.

    Exit code 64 fails the task at once, any other lets the retries run. On a laptop the pod's process group
    never outlives the task: the keeper ends it when the task is stopped, times out, or is killed.

    On a cluster a task that was interrupted finds its pod again by its labels and goes on watching it; there
    is never a second pod beside one that runs. A pod that succeeded is deleted, so is one that did not end
    and that nobody waits for any longer; one that failed stays for reading (`keep_failed_hours`).

    Args:
        image: name of the image in `PodSettings.images`, or a full reference.
        labels: who the pod belongs to; values are made safe for Kubernetes.
        account: whose rights it has, where not those of its environment's pods (include/kubernetes/pods).
    """

    ui_color = "#e8f0fe"
    operator_extra_links = (ReportLink(), EvidenceLink())

    def __init__(self, *, account: str = "", **arguments: Any) -> None:
        defaults: dict[str, Any] = {
            "container_name_log_prefix_enabled": False,
            "log_pod_spec_on_failure": False,
            "log_events_on_failure": True,
            "termination_message_policy": "FallbackToLogsOnError",
            "on_finish_action": "delete_succeeded_pod",
            "do_xcom_push": False,  # a side container, and an image that a cluster may not have
            "durable": True,  # find the pod of an interrupted try again
            "on_failure_callback": leave_word,
        }
        super().__init__(**defaults | arguments)
        self.account = account
        self._own = frozenset(arguments)
        self._pod_settings: PodSettings | None = None
        self._local: LocalPod | None = None
        self._last_seen: Any = None

    @property
    def pod_settings(self) -> PodSettings:
        """This cluster's settings, read once a try."""
        if self._pod_settings is None:
            hook: Any = self.hook
            self._pod_settings = PodSettings.of(hook.conn_extras if self.kubernetes_conn_id else {})
        return self._pod_settings

    @property
    def runs_locally(self) -> bool:
        """Whether the pod becomes a local process."""
        return (self.pod_settings.runtime or settings().runtime) == "local"

    @property
    def environment(self) -> str:
        """The environment that the pod belongs to; empty for a pod of none."""
        return str(self.labels.get("environment", ""))

    @cached_property
    def pod_manager(self) -> Pods:
        """Creates the pod and follows it."""
        return Pods(kube_client=self.client, callbacks=self.callbacks)

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
        """The pod, by the provider's own builder, with this cluster's image, variables and secrets in it."""
        self.prepare()
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        if queue := self.pod_settings.queues.get(self.environment):
            pod.metadata.labels[QUEUE] = queue
        self.add_variables(pod.spec)
        return pod

    def prepare(self) -> None:
        """Completes what the provider builds the pod from: image, template, namespace, node, labels."""
        from kubernetes.client import models as k8s

        here = self.pod_settings
        self.image = here.image(self.image or "")
        self.image_pull_policy = self.image_pull_policy or here.image_pull_policy or None
        pull = [k8s.V1LocalObjectReference(name) for name in here.image_pull_secrets]
        self.image_pull_secrets = self.image_pull_secrets or pull
        self.full_pod_spec = self.full_pod_spec or pod_template(self.environment, self.account)
        if here.namespace and not self.namespace:
            self.namespace = here.namespace.format(environment=self.environment)
        self.node_selector = self._node_selector(self.environment)
        if self.active_deadline_seconds is None and self.execution_timeout is not None:
            self.active_deadline_seconds = int((self.execution_timeout + AFTER_TIMEOUT).total_seconds())
        self.labels = {name: make_safe_label_value(str(value)) for name, value in self.labels.items()}

    def apply_settings(self) -> None:
        """Takes from the connection how to wait for the pod, where the task's author has not said it."""
        here = self.pod_settings
        limit = self.execution_timeout if self.environment in here.queues else None
        patience = int(limit.total_seconds()) if limit is not None else here.schedule_seconds
        wanted: dict[str, Any] = {
            "deferrable": here.deferrable,
            "poll_interval": here.poll_seconds,
            "logging_interval": here.log_seconds,
            "schedule_timeout_seconds": patience,
            "startup_timeout_seconds": here.start_seconds,
        }
        for name, value in wanted.items():
            if name not in self._own:
                setattr(self, name, value)

    def execute(self, context: Any) -> Any:
        """Runs the pod where this cluster's settings say."""
        if self.runs_locally:
            return self._execute_locally(context)
        self.apply_settings()
        with self._explained():
            return super().execute(context)

    def defer(self, *, trigger: Any, **how: Any) -> NoReturn:
        """Frees the worker; the pod is followed by a trigger that shows all of its log."""
        if type(trigger) is KubernetesPodTrigger:
            trigger = PodTrigger(**trigger.serialize()[1])
        super().defer(trigger=trigger, **how)
        raise AssertionError("a task goes on after it was deferred")

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Continues after the triggerer saw the pod end; a pod that has vanished meanwhile is no success.

        (The provider ends green with nothing then: apache/airflow#73117.)
        """
        self.apply_settings()
        with self._explained():
            try:
                result = super().trigger_reentry(context, event)
            except PodNotFoundException as gone:
                raise self._gone(event["name"], event["namespace"]) from gone
            if self.pod is None:
                raise self._gone(event["name"], event["namespace"])
            return result

    def _write_logs(  # type: ignore[override]
        self, pod: Any, follow: bool = False, since_time: Any = None
    ) -> None:
        """Shows what the pod wrote after `since_time`, when the triggerer looked last.

        (The provider's asks for whole seconds, and shows some lines again or not at all.)
        """
        after = datetime.fromisoformat(since_time) if isinstance(since_time, str) else since_time
        for line in PodLog(after).unseen(self._read_log(pod)):
            self.log.info(line)

    @generic_api_retry  # type: ignore[untyped-decorator]
    def _read_log(self, pod: Any) -> list[str]:
        """All of it, each line with its time."""
        told: Any = self.client.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=self.base_container_name,
            timestamps=True,
            _preload_content=False,
        )
        lines: list[str] = told.data.decode("utf-8", errors="replace").splitlines()
        return lines

    def convert_config_file_to_dict(self) -> None:
        """Hands the triggerer a kubeconfig only where the task's author named one.

        (The provider hands it that of KUBECONFIG as well, beside the connection's, and then refuses both.)
        """
        self._config_dict = None
        if self.config_file:
            super().convert_config_file_to_dict()  # type: ignore[no-untyped-call]

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
        """The pod of an interrupted try, be it that it has ended meanwhile, else a new one.

        (The provider runs a pod that has succeeded unseen a second time.)
        """
        namespace = pod_request_obj.metadata.namespace
        self.sweep(namespace)
        found = self.find_pod(namespace, context=context) if self.reattach_on_restart else None
        if found is not None and found.status is not None and found.status.phase in ENDED:
            self.log.info("Pod %s ended while nobody looked: %s", found.metadata.name, found.status.phase)
            return found
        return super().get_or_create_pod(pod_request_obj, context)

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """What the provider does when a pod is no longer waited for; one that goes on is left to the retry.

        When the API server fails, the pod does not: it is not marked as done with, so that the next try finds
        it. A task that timed out says so (the provider replaces it by "returned a failure", and then Airflow
        does not call on_kill, which deletes the pod).
        """
        trouble = sys.exc_info()[1]
        if isinstance(trouble, AirflowTaskTimeout):
            return
        another = context is not None and context["ti"].try_number <= (context["ti"].max_tries or 0)
        if _is_trouble_of_the_api(trouble) and another:
            self.log.warning("The API server failed, the pod may go on: the next try looks for it")
            return
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException:
            if trouble is None:  # else what is on its way says more than "returned a failure"
                raise

    def process_pod_deletion(self, pod: Any, *, reraise: bool = True) -> bool:
        """Deletes a pod that succeeded and one that has not ended; keeps one that failed.

        (The provider keeps what has not ended as well, which then runs beside the next try:
        apache/airflow#59083, apache/airflow#49466.)
        """
        from kubernetes.client import ApiException

        if pod is None:
            return False
        try:
            self._last_seen = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
        except (ApiException, HTTPError) as error:
            self.log.warning("pod %s was not looked at again: %s", pod.metadata.name, _short(error))
            return False
        if self._last_seen.status.phase == "Failed":
            self.log.info("Pod %s failed and stays for reading", pod.metadata.name)
            return False
        with suppress(*(() if reraise else (ApiException, HTTPError))):
            self.log.info("Deleting pod %s", pod.metadata.name)
            self.pod_manager.delete_pod(pod)
        return True

    def sweep(self, namespace: str) -> None:
        """Deletes pods of activities that failed long ago; what goes wrong with that fails no task."""
        from kubernetes.client import ApiException

        before = datetime.now(UTC) - timedelta(hours=self.pod_settings.keep_failed_hours)
        of_activities = "app.kubernetes.io/part-of=sevenfold,app.kubernetes.io/component=activity"
        try:
            failed = self.client.list_namespaced_pod(
                namespace, label_selector=of_activities, field_selector="status.phase=Failed"
            )
            for pod in failed.items:
                ended = _terminated(pod, self.base_container_name)
                since = (ended.finished_at if ended else None) or pod.metadata.creation_timestamp
                if since < before and not pod.metadata.owner_references:
                    self.log.info("Deleting pod %s, which failed long ago", pod.metadata.name)
                    self.pod_manager.delete_pod(pod)
        except (ApiException, HTTPError) as error:
            self.log.warning("pods that failed long ago were not looked for: %s", _short(error))

    def on_kill(self) -> None:
        """Ends the pod when the task is stopped or times out."""
        if self._local is not None:
            self._local.stop("was stopped by Airflow")
        else:
            super().on_kill()

    def _execute_locally(self, context: Any) -> None:
        self.name = self._set_name(self.name)
        self.pod_request_obj = self.build_pod_request_obj(context, dry_run=True)
        self._local = LocalPod(
            self.pod_request_obj,
            base=self.base_container_name,
            log=self.log.info,
            environment=local_environment(),
            claims={"sevenfold-data": settings().data, "sevenfold-logs": settings().logs},
        )
        try:
            ended = self._local.run()
        except CannotRunLocally as error:
            raise AirflowFailException(f"this pod needs a cluster: {error}") from error
        self._say_what_it_used(ended)
        if ended.exit_code == NO_RETRY_HELPS:
            raise AirflowFailException(ended.last_line)
        if ended.exit_code:
            raise AirflowException(how_it_ended(self.task_id, ended))

    def _say_what_it_used(self, ended: Ended) -> None:
        if ended.cpu_seconds is None or ended.peak_mib is None:
            return
        limits = getattr(self.container_resources, "limits", None) or {}
        limit = f" (limit on a cluster: {limits['memory']})" if "memory" in limits else ""
        self.log.info(
            "%s took %.1f s, used %.1f s of CPU and %.0f MiB of memory%s",
            *(self.task_id, ended.seconds, ended.cpu_seconds, ended.peak_mib, limit),
        )

    def add_variables(self, spec: Any) -> None:
        """Puts this cluster's variables and secrets into the base container of a V1PodSpec."""
        from kubernetes.client import models as k8s

        here = self.pod_settings
        for container in spec.containers:
            if container.name != self.base_container_name:
                continue
            own = {variable.name for variable in container.env or []}
            wanted = {}
            if not self.runs_locally:
                wanted = _where_it_runs(container) | {"SEVENFOLD_IMAGES": json.dumps(here.references())}
            wanted |= here.variables_of(self.environment)
            more = [k8s.V1EnvVar(name, value) for name, value in wanted.items() if name not in own]
            container.env = [*(container.env or []), *more]
            secrets = [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name)) for name in here.secrets]
            container.env_from = [*(container.env_from or []), *secrets]

    def _node_selector(self, environment: str) -> dict[str, str]:
        here = self.pod_settings.node_selectors
        limits = getattr(self.container_resources, "limits", None) or {}
        gpu = here.get("gpu", {}) if any("gpu" in name for name in limits) else {}
        return {**here.get(environment, {}), **gpu, **(self.node_selector or {})}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong with a pod on a cluster ends as one sentence, not retried where that is no use."""
        from kubernetes.client import ApiException

        try:
            yield
        except ApiException as error:
            if refusal := why_refused(self.task_id, error):
                _raise_refusal(refusal, error)
            self._raise_explained(error)
        except HTTPError as error:
            _raise_refusal(unreachable(self.task_id, error), error)
        except AirflowException as error:
            self._raise_explained(error)

    def _raise_explained(self, error: Exception) -> NoReturn:
        from kubernetes.client import ApiException

        if self._killed:
            raise AirflowException(f"{self.task_id} was stopped by Airflow, and its pod deleted") from error
        known = self._last_seen or self.remote_pod or self.pod
        if known is None:
            raise error
        try:
            pod = self._last_seen or self.hook.get_pod(known.metadata.name, known.metadata.namespace)
        except ApiException as unseen:
            if unseen.status != 404:
                raise error from unseen
            raise self._gone(known.metadata.name, known.metadata.namespace) from error
        except HTTPError as unseen:  # what went wrong first says more than that nobody answers now
            raise error from unseen
        self.raise_for(pod, error)

    def _gone(self, name: str, namespace: str) -> AirflowException:
        """Why a pod is not there any more, as far as anybody said it."""
        why = gave_way(self.client, self.task_id, name, namespace)
        return AirflowException(why or _vanished(self.task_id, namespace, name))

    def raise_for(self, pod: Any, error: Exception) -> NoReturn:
        """Raises why `pod` did not end well, as one sentence; `error` itself if its status says nothing."""
        ended = _terminated(pod, self.base_container_name)
        if ended is not None and ended.exit_code == NO_RETRY_HELPS:
            message = [line for line in (ended.message or "").splitlines() if line.strip()]
            raise AirflowFailException(message[-1] if message else str(error)) from error
        if waits_in_queue(pod):
            raise AirflowException(not_admitted(self.client, self.task_id, "pod", pod.metadata)) from error
        sentence = why_it_ended(pod, self.base_container_name, self.task_id, self._warnings(pod))
        if sentence is None:
            raise error
        raise AirflowException(sentence) from error

    def _warnings(self, pod: Any) -> list[str]:
        """What the cluster warned of while the pod waited, oldest first: a missing volume shows only here."""
        from kubernetes.client import ApiException

        if pod.status is None or pod.status.phase != "Pending":
            return []
        try:
            events = self.pod_manager.read_pod_events(pod).items
        except (ApiException, AirflowException, HTTPError):
            return []
        return [f"{event.reason}: {event.message}" for event in events if event.type == "Warning"]


def _where_it_runs(container: Any) -> dict[str, str]:
    """What tells a process that it runs in a pod, and where the volumes are."""
    mounted = {mount.mount_path for mount in container.volume_mounts or []}
    places = {name: place for place, name in PLACES.items() if place in mounted}
    return {"SEVENFOLD_RUNTIME": "kubernetes", **places}


def _is_trouble_of_the_api(error: BaseException | None) -> bool:
    """Whether it says nothing of the pod: the API server answered with 429 or 5xx, or not at all."""
    from kubernetes.client import ApiException

    if isinstance(error, ApiException):
        return error.status in (401, 429) or error.status >= 500 or error.status == 0
    return isinstance(error, HTTPError)


def _short(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error).splitlines()[0]


def _raise_refusal(refusal: Refusal, error: Exception) -> NoReturn:
    kind = AirflowException if refusal.retry else AirflowFailException
    raise kind(refusal.sentence) from error


def _vanished(task_id: str, namespace: str, name: str) -> str:
    return (
        f"pod {name} of {task_id} has vanished from namespace {namespace}, and nobody saw it end: it was "
        "deleted, or its node went. It is tried again, and training goes on from its checkpoint"
    )


def how_it_ended(task_id: str, ended: Ended) -> str:
    """One sentence: what happened to the pod, and the last thing it said."""
    after = f"after {ended.seconds:.1f} s"
    if ended.stopped:
        return f"{task_id} {ended.stopped} {after}; its last line: {ended.last_line}"
    if name := signal_name(ended.exit_code):
        why = ", perhaps by the kernel for lack of memory" if name == "SIGKILL" else ""
        return f"{task_id} was killed by {name} {after}{why}; its last line: {ended.last_line}"
    return f"{task_id} ended with exit code {ended.exit_code} {after}: {ended.last_line}"


AS_IN_AN_IMAGE = {
    "PYTHONPATH": str(REPOSITORY / "include"),
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""What the images in docker/ set: where the code is, one thread a process, no telemetry, no pickle."""


OWN = ("SEVENFOLD_", "AWS_", "AZURE_", "GOOGLE_", "PG")
"""What variables begin with that say where things are, and as whom object storage and PostgreSQL know us."""


def local_environment() -> dict[str, str]:
    """What an image would have set, and this worker's own variables."""
    own = {name: value for name, value in os.environ.items() if name.startswith(OWN)}
    return own | AS_IN_AN_IMAGE


def _terminated(pod: Any, container: str) -> Any:
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next(
        (status.state.terminated for status in statuses if status.name == container and status.state), None
    )
