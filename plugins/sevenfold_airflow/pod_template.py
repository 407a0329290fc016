"""The pod of an environment, before an activity is put into it: `include/kubernetes/pods/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

from sevenfold.settings import REPOSITORY

if TYPE_CHECKING:
    from kubernetes.client.models import V1Pod

FOLDER = REPOSITORY / "include" / "kubernetes" / "pods"


@cache
def pod_template(environment: str, folder: Path = FOLDER) -> V1Pod | None:
    """What all pods have in common with what is particular to `environment`; None if there is no such file.

    A pod of no environment gets no template: what it may do is its author's business.
    """
    own = folder / f"{environment}.yaml"
    if not environment or not own.is_file():
        return None
    base, particular = (
        PodGenerator.deserialize_model_file(str(path)) for path in (folder / "base.yaml", own)
    )
    return PodGenerator.reconcile_pods(base, particular)
