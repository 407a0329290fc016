"""Airflow by its official Helm chart: our overlays made for it, and what the chart makes of our values.

The chart is not ours and nothing here fetches it:

    helm pull airflow --repo https://airflow.apache.org --version 1.22.0
    SEVENFOLD_AIRFLOW_CHART=airflow-1.22.0.tgz python -m pytest tests/manifests/test_chart.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.manifests.rendered import KUBERNETES, Resource, of_kind, read, render

CHART = os.environ.get("SEVENFOLD_AIRFLOW_CHART", "")
NAMESPACE = "sevenfold-airflow"
VERSION = "1.22.0"
EXECUTOR = "airflow/airflow-scheduler | own | /pods | create get list watch patch delete"
"""What the chart's Airflow may do besides (test_rights.MATRIX): the scheduler starts the pods of tasks."""


def overlay_for_the_chart(name: str) -> list[Resource]:
    """An overlay with the folder of the chart as a component, instead of our own Airflow."""
    return read(_overlay_for_the_chart(name))


@cache
def _overlay_for_the_chart(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / name
        source = KUBERNETES / "overlays" / name
        shutil.copytree(source, there)
        kustomization = yaml.safe_load((there / "kustomization.yaml").read_text())
        for key in ("resources", "components"):
            kustomization[key] = [
                os.path.relpath(_instead(source / path).resolve(), there.resolve())
                if (source / path).is_dir()
                else path
                for path in kustomization[key]
            ]
        (there / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(there)


def _instead(path: Path) -> Path:
    return KUBERNETES / "airflow" if path.resolve() == KUBERNETES / "components" / "airflow" else path


def chart(name: str, *options: str) -> list[Resource]:
    """The chart's objects for the overlay of this name; the pod of a task is one of them."""
    return read(_chart(name, *options))


@cache
def _chart(name: str, *options: str) -> str:
    if not CHART:
        pytest.skip(f"SEVENFOLD_AIRFLOW_CHART names no official chart {VERSION}")
    if not shutil.which("helm"):
        pytest.skip("helm is not here to render the official chart")
    files = (
        KUBERNETES / "airflow" / "values.yaml",
        KUBERNETES / "airflow" / f"{name}.yaml",
        KUBERNETES / "images" / "airflow-values.yaml",
    )
    command = ["helm", "template", "airflow", CHART, "--namespace", NAMESPACE, "--kube-version", "1.36.0"]
    command += [word for file in files for word in ("--values", str(file))]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = [one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one]
    made.append(_pod_of_a_task(made))
    for one in made:
        one["metadata"].setdefault("namespace", NAMESPACE)
    return yaml.safe_dump_all(made)


def _pod_of_a_task(made: list[Resource]) -> Resource:
    """The template from which KubernetesExecutor makes a pod; what it leaves empty is not there."""
    pod: dict[str, Any] = yaml.safe_load(configuration(made)["pod_template_file.yaml"])
    pod["metadata"]["name"] = "task"
    pod["spec"] = {key: value for key, value in pod["spec"].items() if value is not None}
    return pod


def configuration(made: list[Resource]) -> dict[str, str]:
    """The files that the chart gives to Airflow."""
    [found] = [one for one in of_kind(made, "ConfigMap") if one["metadata"]["name"] == "airflow-config"]
    data: dict[str, str] = found["data"]
    return data
