"""One activity, one pod: on a cluster a pod, on a laptop the same pod as a local process.

The pod is built by the provider's own `build_pod_request_obj` in both cases, so that what a cluster will run
is what a laptop describes. Which of the two happens is a setting of the connection `kubernetes_default`,
never a branch in a DAG.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from sevenfold.errors import NO_RETRY_HELPS
from sevenfold.settings import REPOSITORY, settings
from sevenfold_airflow.links import EvidenceLink, ReportLink
from sevenfold_airflow.local_pod import CannotRunLocally, Ended, LocalPod, signal_name
from sevenfold_airflow.pod_end import why_it_ended
from sevenfold_airflow.pod_template import pod_template


@dataclass(frozen=True)
class PodSettings:
    """What differs between clusters: the key `sevenfold` in the extra of the connection `kubernetes_default`.

    Attributes:
        runtime: "local" or "kubernetes"; empty follows SEVENFOLD_RUNTIME.
        images: full image reference of each image name; others are `<registry>/<name>:<tag>`.
        registry: prefix of images that `images` does not name.
        tag: tag of images that `images` does not name.
        image_pull_policy: of every pod; empty leaves it to the cluster.
        namespace: of the pods of an environment; `{environment}` stands for its name, empty follows the
            pod template of the environment.
        node_selectors: node labels that the pods of an environment need; `gpu`: those that ask for a GPU.
        variables: environment variables of every pod (SEVENFOLD_EVIDENCE_URL and the like).
        secrets: secrets of the namespace whose keys become variables of every pod.
        deferrable: wait for pods in the triggerer instead of in a worker.
    """

    runtime: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    registry: str = "sevenfold"
    tag: str = "dev"
    image_pull_policy: str = ""
    namespace: str = ""
    node_selectors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    deferrable: bool = False

    @classmethod
    def of(cls, extra: Mapping[str, Any]) -> PodSettings:
        """Reads the extra of a connection.

        Raises:
            AirflowFailException: it has a key that means nothing here.
        """
        given = extra.get("sevenfold") or {}
        unknown = sorted(set(given) - {known.name for known in fields(cls)})
        if unknown:
            raise AirflowFailException(
                f"connection kubernetes_default, extra sevenfold: {', '.join(unknown)} means nothing here"
            )
        return cls(**given | {"secrets": tuple(given.get("secrets", ()))})

    def image(self, name: str) -> str:
        """The reference of an image; a name that is a reference already stays as it is."""
        return self.images.get(name) or (name if "/" in name else f"{self.registry}/{name}:{self.tag}")


class PodOperator(KubernetesPodOperator):
    """Runs one activity to its end, streaming its log; its error sentence is the exception of a failed try.

    Exit code 64 fails the task at once, any other lets the retries run. On a laptop the pod's process group
    never outlives the task: the keeper ends it when the task is stopped, times out, or is killed.

    Args:
        image: name of the image in `PodSettings.images`, or a full reference.
        labels: who the pod belongs to; values are made safe for Kubernetes.
    """

    ui_color = "#e8f0fe"
    operator_extra_links = (ReportLink(), EvidenceLink())

    def __init__(self, **arguments: Any) -> None:
        defaults: dict[str, Any] = {
            "container_name_log_prefix_enabled": False,
            "log_pod_spec_on_failure": False,
            "log_events_on_failure": True,
            "termination_message_policy": "FallbackToLogsOnError",
            "on_finish_action": "delete_succeeded_pod",  # a failed one is kept for reading
            "do_xcom_push": False,
        }
        super().__init__(**defaults | arguments)
        self._pod_settings: PodSettings | None = None
        self._local: LocalPod | None = None

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

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
        """The pod, by the provider's own builder, with this cluster's image, variables and secrets in it."""
        self.prepare()
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        self.add_variables(pod.spec)
        return pod

    def prepare(self) -> None:
        """Completes what the provider builds the pod from: image, template, namespace, node, labels."""
        here = self.pod_settings
        self.image = here.image(self.image or "")
        self.image_pull_policy = self.image_pull_policy or here.image_pull_policy or None
        environment = self.labels.get("environment", "")
        self.full_pod_spec = self.full_pod_spec or pod_template(environment)
        if here.namespace and not self.namespace:
            self.namespace = here.namespace.format(environment=environment)
        self.node_selector = self._node_selector(environment)
        self.labels = {name: make_safe_label_value(str(value)) for name, value in self.labels.items()}

    def execute(self, context: Any) -> Any:
        """Runs the pod where this cluster's settings say."""
        if self.runs_locally:
            return self._execute_locally(context)
        self.deferrable = self.deferrable or self.pod_settings.deferrable
        with self._explained():
            return super().execute(context)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Continues after the triggerer saw the pod end; a pod that has vanished meanwhile is no success.

        (The provider ends green with nothing then: apache/airflow#73117.)
        """
        with self._explained():
            result = super().trigger_reentry(context, event)
            if self.pod is None:
                raise AirflowException(_vanished(self.task_id, event["namespace"], event["name"]))
            return result

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
            more = [k8s.V1EnvVar(name, value) for name, value in here.variables.items() if name not in own]
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
            if error.status == 403:
                raise AirflowFailException(_forbidden(self.task_id, error)) from error
            self._raise_explained(error)
        except AirflowException as error:
            self._raise_explained(error)

    def _raise_explained(self, error: Exception) -> NoReturn:
        from kubernetes.client import ApiException

        pod = self.remote_pod or getattr(self, "pod", None)  # a Job has none before its pods are found
        if pod is None:
            raise error
        try:
            pod = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
        except ApiException as unseen:
            if unseen.status == 404:
                vanished = _vanished(self.task_id, pod.metadata.namespace, pod.metadata.name)
                raise AirflowException(vanished) from error
        ended = _terminated(pod, self.base_container_name)
        if ended is not None and ended.exit_code == NO_RETRY_HELPS:
            message = [line for line in (ended.message or "").splitlines() if line.strip()]
            raise AirflowFailException(message[-1] if message else str(error)) from error
        sentence = why_it_ended(pod, self.base_container_name, self.task_id)
        if sentence is None:
            raise error
        raise AirflowException(sentence) from error


def _vanished(task_id: str, namespace: str, name: str) -> str:
    return (
        f"pod {name} of {task_id} has vanished from namespace {namespace}, and nobody saw it end: it was "
        "deleted, or its node went. It is tried again, and training goes on from its checkpoint"
    )


def _forbidden(task_id: str, error: Any) -> str:
    try:
        said = json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        said = error.reason
    return f"the cluster does not allow {task_id}: {said}. Apply the roles in include/kubernetes/"


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


def local_environment() -> dict[str, str]:
    """What an image would have set, and this worker's SEVENFOLD_* variables."""
    own = {name: value for name, value in os.environ.items() if name.startswith("SEVENFOLD_")}
    return own | AS_IN_AN_IMAGE


def _terminated(pod: Any, container: str) -> Any:
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next(
        (status.state.terminated for status in statuses if status.name == container and status.state), None
    )
