"""What README and docs/cluster.md tell people to type exists: commands, options, objects, files."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.manifests.rendered import Resource, overlay
from typer.main import get_command

from sevenfold.cli.main import app
from sevenfold.evidence import grants
from sevenfold.kubernetes import images
from sevenfold.kubernetes.cluster_secrets import IN_CLUSTER, cluster_secrets

ROOT = Path(__file__).resolve().parents[1]
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/cluster.md")}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
TYPED = "\n".join([*BLOCKS, *re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", TEXT))])
"""Lines in which somebody is told what to type."""
OURS = r"^(?:.* -m sevenfold\.cli|sevenfold) ([a-z][^`\n|;]*)"
NAMED = r"\b((?:include|plugins|tests|docker|docs|dags)/[\w./-]+\w)"
HOUSE = "include/\n  sevenfold/"
"""The picture of the folders."""
MADE = {
    "include/models/churn",
    "include/models/churn/tests",
    "include/kubernetes/images/airflow-values.yaml",
}
"""What is made by a command that is told there."""


def said(pattern: str) -> list[str]:
    """All that is typed like this."""
    return sorted(set(re.findall(pattern, TYPED, re.MULTILINE)))


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return overlay("laptop-kind")


@pytest.fixture(scope="module")
def objects(resources: list[Resource], tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str, str]]:
    """Namespace, kind and name of everything that is applied."""
    secrets = cluster_secrets(tmp_path_factory.mktemp("secrets"), IN_CLUSTER, "s3://sevenfold/mlflow")
    found = [*resources, *secrets]
    return {(o["metadata"].get("namespace", ""), o["kind"].lower(), o["metadata"]["name"]) for o in found}


@pytest.mark.parametrize("words", said(r"kubectl ((?:-n|--namespace) \S+ [^`\n|;&]+)"))
def test_what_kubectl_is_asked_about_is_there(words: str, objects: set[tuple[str, str, str]]) -> None:
    namespace = words.split()[1]
    assert namespace in {name for name, _, _ in objects}
    for kind, name in re.findall(r"\b(deployment|service|job|secret)[/ ]([a-z][a-z-]+)\b", words):
        assert (namespace, kind, name) in objects


@pytest.mark.parametrize("words", said(OURS))
def test_commands_have_the_options_that_are_told(words: str) -> None:
    name, *others = shlex.split(words.split("   ")[0].rstrip(")"))
    command: Any = get_command(app).commands.get(name)  # type: ignore[attr-defined]
    assert command is not None, f"there is no command {name}"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in others if word.startswith("--")} <= known


@pytest.mark.parametrize("target", said(r"^make ([a-z][a-z-]*)"))
def test_targets_exist_and_take_what_is_told(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
    for line in re.findall(rf"^make {target} .*", TYPED, re.MULTILINE):
        for variable in re.findall(r"\b([A-Z_]+)=", line):
            assert f"$({variable})" in makefile, variable


def test_a_cluster_gets_all_images_but_those_of_docker_and_of_tests() -> None:
    [named] = re.findall(r'^make images SAVE=archives ONLY="(.*?)"', PAGES["README.md"], re.MULTILINE)
    known = images.read(ROOT / "include" / "kubernetes" / "images" / "kustomization.yaml")
    assert set(named.split()) == known.keys() - {"machine", "testbed"}


def test_what_is_pasted_is_a_command_and_what_is_said_of_it_stands_behind_a_hash() -> None:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if not language and HOUSE not in block]
    assert len(blocks) > 10
    for block in blocks:
        assert not re.search(r"\S {3,}[^#\s]", block), block
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True)
        assert not done.stderr, done.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(NAMED, TEXT))))
def test_files_that_are_named_exist(path: str) -> None:
    assert path in MADE or (ROOT / path).exists()


def test_every_overlay_and_every_role_has_its_line() -> None:
    page = PAGES["docs/cluster.md"]
    for folder in (ROOT / "include" / "kubernetes" / "overlays").iterdir():
        assert f"| `{folder.name}` |" in page
    for role in grants.RIGHTS:
        assert f"`{grants.PREFIX}_{role}`" in page, role


def test_the_connection_that_is_shown_is_one() -> None:
    from sevenfold_airflow.pod_settings import PodSettings

    [shown] = re.findall(r"```yaml\n(conn_type.*?)```", PAGES["docs/cluster.md"], re.DOTALL)
    assert PodSettings.of(yaml.safe_load(shown)["conn_extra"]).runtime == "kubernetes"
