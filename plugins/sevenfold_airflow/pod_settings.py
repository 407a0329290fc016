"""What differs between clusters: the key `sevenfold` in the extra of the connection `kubernetes_default`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from sevenfold.kubernetes import images


@dataclass(frozen=True)
class PodSettings:
    """How pods of activities are made on this cluster, or that they are local processes.

    Where the cluster is, the connection says in the provider's own words: `in_cluster`, `kube_config_path` or
    `kube_config`, and `cluster_context`. (Set one of the first three: the provider does not
    guess for a deferred task.)

    Attributes:
        runtime: "local" or "kubernetes"; empty follows SEVENFOLD_RUNTIME.
        images: full references of images for which that of the file that `make images` writes is not meant.
        registry: prefix of images, where it is another one than in that file.
        tag: tag of images, instead of the digest or tag in that file.
        image_pull_policy: of every pod; empty leaves it to the cluster.
        image_pull_secrets: names of secrets with which images are pulled.
        namespace: of the pods of an environment; `{environment}` stands for its name, empty follows the
            pod template of the environment.
        node_selectors: node labels that the pods of an environment need; `gpu`: those that ask for a GPU.
        queues: Kueue's LocalQueue for the pods and jobs of an environment; none: the scheduler's own queue.
        variables: environment variables of every pod (SEVENFOLD_GATEWAY_URL and the like); `{environment}`
            stands for the name of its environment.
        secrets: secrets of the namespace whose keys become variables of every pod, beside `sevenfold`.
        deferrable: wait for pods in the triggerer instead of in a worker.
        poll_seconds: how often the triggerer looks at a pod.
        log_seconds: how often the triggerer fetches what a pod has written meanwhile.
        schedule_seconds: how long a pod may wait for a node; in a queue as long as the task may take.
        start_seconds: how long it may take from there to its start, images included.
        keep_failed_hours: how long pods that failed stay for reading.
    """

    runtime: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    registry: str = ""
    tag: str = ""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    namespace: str = ""
    node_selectors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    queues: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    deferrable: bool = True
    poll_seconds: float = 5
    log_seconds: int = 15
    schedule_seconds: int = 600
    start_seconds: int = 900
    keep_failed_hours: float = 72

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
        lists = {name: tuple(given[name]) for name in ("secrets", "image_pull_secrets") if name in given}
        return cls(**given | lists)

    def image(self, name: str) -> str:
        """The reference of an image; a name that is a reference already stays as it is."""
        if "/" in name:
            return name
        unknown = images.moved(f"{images.PREFIX}{name}:dev", self.registry, self.tag)
        return self.references().get(name, unknown)

    def references(self) -> dict[str, str]:
        """Image name to full reference on this cluster."""
        found = {
            name: images.moved(reference, self.registry, self.tag)
            for name, reference in images.references().items()
        }
        return found | dict(self.images)

    def variables_of(self, environment: str) -> dict[str, str]:
        """`variables`, with the name of the environment filled in."""
        return {name: value.replace("{environment}", environment) for name, value in self.variables.items()}
