"""The one file that says which images run: a component of kustomize, which the DAGs' pods read too.

Beside it stands what the official Helm chart of Airflow wants to know of its image, in the chart's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from recipe import ROOT, recipes

FOLDER = ROOT / "include" / "kubernetes" / "images"
FILE = FOLDER / "kustomization.yaml"
CHART = FOLDER / "airflow-values.yaml"

HEAD = """\
# Which images run. Written by `make images`; commit it where a repository says what your cluster runs.
# Manifests take it as a component; the pods of activities read it too (sevenfold.kubernetes.images).
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
"""
TAIL = """\
configMapGenerator: # the same file for Airflow and the roll-back: mount it and set SEVENFOLD_IMAGES_FILE
  - name: sevenfold-images
    namespace: sevenfold-airflow
    files: &file [images.yaml=kustomization.yaml]
    options: &by-name {disableNameSuffixHash: true}
  - name: sevenfold-images
    namespace: sevenfold-production
    files: *file
    options: *by-name
"""


def base() -> str:
    """The base of the last time, pinned; empty if none was built yet."""
    found = re.search(r"sevenfold.io/base: ([^\s}]+@[^\s}]+)", FILE.read_text()) if FILE.is_file() else None
    return found[1] if found else ""


def references() -> dict[str, str]:
    """Image name to full reference, as the file says now."""
    text = FILE.read_text() if FILE.is_file() else ""
    entries = re.findall(r"name: sevenfold/(\w+), newName: (\S+), (newTag|digest): \"(\S+)\"", text)
    return {name: f"{new}{'@' if how == 'digest' else ':'}{which}" for name, new, how, which in entries}


def write(base: str, built: Mapping[str, str]) -> None:
    """Puts the references of `built` into the file; what was not built this time stays as it was."""
    runnable = {one.name for one in recipes() if one.runs}
    known = {**references(), **built}
    shown = {name: reference for name, reference in sorted(known.items()) if name in runnable}
    FOLDER.mkdir(parents=True, exist_ok=True)
    FILE.write_text(
        HEAD
        + f"metadata: {{name: images, annotations: {{sevenfold.io/base: {base}}}}}\n"
        + "images:\n"
        + "".join(f"  - {{{_entry(name, reference)}}}\n" for name, reference in shown.items())
        + TAIL
    )
    if "airflow" in shown:
        CHART.write_text(_values(*_parts(shown["airflow"])))


def _values(name: str, how: str, which: str) -> str:
    """The image of Airflow in the chart's own words, and again for the pods that run tasks.

    Of the latter the chart knows a repository and a tag only, and sets a colon between them: a digest is
    parted at its own.
    """
    key = {"newTag": "tag", "digest": "digest"}[how]
    algorithm, _, tag = which.rpartition(":")
    tasks = f"{name}@{algorithm}" if algorithm else name
    return (
        "# The image of Airflow for the official Helm chart. Written by `make images`.\n"
        "images:\n"
        f'  airflow: {{repository: {name}, {key}: "{which}"}}\n'
        f'  pod_template: {{repository: {tasks}, tag: "{tag}"}} # of tasks\n'
    )


def _entry(name: str, reference: str) -> str:
    new, how, which = _parts(reference)
    return f'name: sevenfold/{name}, newName: {new}, {how}: "{which}"'


def _parts(reference: str) -> tuple[str, str, str]:
    """Name, kustomize's word for what pins it, and that."""
    name, at, digest = reference.partition("@")
    if at:
        return name, "digest", digest
    return (name.rpartition(":")[0], "newTag", name.rpartition(":")[2])
