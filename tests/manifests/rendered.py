"""The overlays of include/kubernetes as kustomize renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).resolve().parents[2] / "include" / "kubernetes"
OVERLAYS = ("laptop-kind", "staging-like", "production")
Resource = dict[str, Any]


@cache
def render(folder: Path) -> str:
    """What `kubectl apply -k` would apply, as YAML; no cluster is asked, and nothing fetched."""
    command = next(
        (words for words in (["kubectl", "kustomize"], ["kustomize", "build"]) if shutil.which(words[0])),
        None,
    )
    if command is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have kubectl or kustomize: nothing else renders include/kubernetes")
        pytest.skip("neither kubectl nor kustomize is here to render include/kubernetes")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlay(name: str) -> list[Resource]:
    """The objects of an overlay, a copy of one's own."""
    return read(overlay_text(name))


def overlay_text(name: str) -> str:
    """An overlay as YAML."""
    return render(KUBERNETES / "overlays" / name)


def read(text: str) -> list[Resource]:
    """The objects of a rendered text."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def named(resource: Resource) -> str:
    """`Kind namespace/name`, to be found again."""
    metadata = resource["metadata"]
    return f"{resource['kind']} {metadata.get('namespace', '-')}/{metadata['name']}"


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    """Those of some kinds."""
    return [resource for resource in resources if resource["kind"] in kinds]


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Each object that makes pods, by name, as the pod that it makes."""
    for resource in of_kind(resources, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
        template = resource["spec"].get("jobTemplate", resource)["spec"]["template"]
        metadata = {**template.get("metadata", {}), "namespace": resource["metadata"].get("namespace")}
        yield named(resource), {"metadata": metadata, "spec": template["spec"]}
