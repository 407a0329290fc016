"""The pod of an environment, before an activity is put into it: `include/kubernetes/pods/`."""

from __future__ import annotations

from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

from sevenfold.settings import REPOSITORY

if TYPE_CHECKING:
    from kubernetes.client.models import V1Pod

FOLDER = REPOSITORY / "include" / "kubernetes" / "pods"


@cache
def pod_template(environment: str, account: str = "", folder: Path = FOLDER) -> V1Pod | None:
    """What all pods have in common with what is particular to `environment`; None if there is no such file.

    With `account` it is one of the environment's pods that has more rights than the others. A pod of no
    environment gets no template: what it may do is its author's business.
    """
    if not environment or not (folder / f"{environment}.yaml").is_file():
        return None
    pods = (
        PodGenerator.deserialize_model_file(str(folder / f"{name}.yaml"))
        for name in ("base", environment, account)
        if name
    )
    return reduce(PodGenerator.reconcile_pods, pods)
