"""Each image: a clean Dockerfile, and a subset of the one set of requirements."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted(path.parent.name for path in (ROOT / "docker").glob("*/Dockerfile"))


def names(path: Path) -> set[str]:
    lines = (line.split("#")[0].split(";")[0].strip() for line in path.read_text().splitlines())
    return {re.split(r"[\[=<>~]", line)[0].lower() for line in lines if line}


@pytest.mark.parametrize("image", IMAGES)
def test_dockerfile_is_lint_clean(image: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run(
        [hadolint, ROOT / "docker" / image / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_image_takes_a_subset_of_the_requirements(image: str) -> None:
    wanted = names(ROOT / "docker" / image / "requirements.txt")
    assert wanted, f"docker/{image}/requirements.txt is empty"
    assert wanted <= names(ROOT / "requirements.txt")


@pytest.mark.parametrize("image", sorted(set(IMAGES) - {"airflow"}))
def test_a_pod_writes_to_scratch_only(image: str) -> None:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    for variable in ("HOME=/scratch", "TMPDIR=/scratch", "SEVENFOLD_HOME=/scratch/sevenfold"):
        assert variable in text, f"the root file system of a pod is read-only, and {image} does not know"


def test_the_server_image_has_no_training_libraries() -> None:
    assert not names(ROOT / "docker/server/requirements.txt") & {"torch", "mlflow", "pandas", "scikit-learn"}
