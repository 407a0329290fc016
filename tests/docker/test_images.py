"""Each image: a clean Dockerfile, and a subset of the one lock that is exactly what its programs need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.docker.making import OF_TORCH, ROOT, locked, needed, recipes, requirements

from sevenfold.kubernetes import images
from sevenfold.model.spec import load_spec, models
from sevenfold_airflow.pod import AS_IN_AN_IMAGE

IMAGES = sorted(one.name for one in recipes())
OF_ACTIVITIES = sorted(one.name for one in recipes() if one.parent and one.parent.name == "common")


def read(path: Path) -> dict[str, Requirement]:
    """The lines of a requirements file, by name."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    found = (Requirement(line) for line in lines if line)
    return {canonicalize_name(one.name): one for one in found if one.marker is None or one.marker.evaluate()}


@pytest.mark.parametrize("image", IMAGES)
def test_dockerfile_is_lint_clean(image: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run(
        [hadolint, ROOT / "docker" / image / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_image_takes_a_subset_of_the_requirements(image: str) -> None:
    assert {one.name for one in requirements(image)} <= {
        one.name for one in read(ROOT / "requirements.txt").values()
    }


@pytest.mark.parametrize("image", IMAGES)
def test_no_image_contradicts_the_lock(image: str) -> None:
    lock = read(ROOT / "requirements.lock")
    for one in locked(image):
        known = lock.get(canonicalize_name(one.name))
        assert known is not None, f"{one.name} of {image} is not in requirements.lock: make lock"
        assert one.specifier == known.specifier, f"{image} has {one}, the lock {known}: make lock"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_what_its_requirements_need_and_nothing_else(image: str) -> None:
    """What is installed here says what needs what; it is installed from the one lock."""
    here = {canonicalize_name(one.name) for one in locked(image)}
    wanted = {one for one in needed(image) if not one.startswith(OF_TORCH)}
    assert here - {"nvidia-ml-py"} == wanted - {"nvidia-ml-py"}, "make lock"


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_installed_twice(image: str) -> None:
    named = [canonicalize_name(one.name) for one in locked(image)]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_stands_on_ours_and_runs_as_nobody_in_particular(image: str) -> None:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert last.startswith("${BASE}" if image == "python" else ("${PYTHON}", "${COMMON}", "${AIRFLOW}"))
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE)[-1] == "10001:10001"
    assert "HOME=" not in last.replace("AIRFLOW_HOME=", "") or image == "python"


def test_what_serves_says_whether_it_is_well() -> None:
    """The other images are of activities, which end."""
    asked = {one.name for one in recipes() if "\nHEALTHCHECK " in one.text}
    assert asked == {"airflow", "gateway", "mlflow", "server", "testbed"}


@pytest.mark.parametrize(("answer", "code"), [(200, 0), (503, 1)])
@pytest.mark.parametrize("image", ["gateway", "mlflow", "server", "testbed"])
def test_a_health_check_asks_past_a_proxy(image: str, answer: int, code: int) -> None:
    """Docker hands containers the proxy of a company's settings."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    text = (ROOT / "docker" / image / "Dockerfile").read_text().replace("\\\n", " ")
    _, *command = json.loads(re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)[0])
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = re.sub(r"(?<='127\.0\.0\.1', )\d+", str(server.server_port), command[-1])
        proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
        asked = subprocess.run([sys.executable, *command[:-1], program], env=proxy, capture_output=True)
        server.shutdown()
    assert asked.returncode == code, asked.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_keeps_nothing_of_its_making(image: str) -> None:
    """No compiler, no package of a distribution; pip and its cache are mounted while an image is built."""
    text = (ROOT / "docker" / image / "Dockerfile").read_text().replace("\\\n", " ")
    assert not re.search(r"\b(apt|apt-get|apk|dnf|gcc|build-essential)\b", text)
    for line in re.findall(r"^RUN (.*/pip .*install .*)$", text, re.MULTILINE):
        assert "--mount=type=cache,target=/var/cache/pip" in line, line
        assert "/opt/tools/bin/pip " in line and "--cache-dir /var/cache/pip" in line, line


def test_every_image_sets_what_the_laptop_imitates() -> None:
    text = (ROOT / "docker/python/Dockerfile").read_text()
    for name, value in AS_IN_AN_IMAGE.items():
        wanted = "/opt/sevenfold/include" if name == "PYTHONPATH" else value
        assert f" {name}={wanted}" in text
    for variable in ("HOME=/scratch", "TMPDIR=/scratch", "SEVENFOLD_HOME=/scratch/sevenfold"):
        assert f" {variable}" in text, "the root file system of a pod is read-only"


@pytest.mark.parametrize("image", OF_ACTIVITIES)
def test_an_image_holds_the_data_that_models_are_built_from(image: str) -> None:
    """Whoever opens a snapshot names it by the version of the package that the data come from."""
    packages = {load_spec(model).data.package for model in models()} - {None}
    assert packages <= {one.name for one in locked(image)}


def test_the_server_image_has_no_training_libraries() -> None:
    assert not {one.name for one in locked("server")} & {"torch", "mlflow", "pandas", "scikit-learn"}


def test_images_of_candidates_are_there() -> None:
    assert set(images.OF_A_CANDIDATE) == {*OF_ACTIVITIES, "server"}


def test_the_settings_file_names_what_runs() -> None:
    file = ROOT / "include/kubernetes/images/kustomization.yaml"
    assert set(images.read(file)) == {one.name for one in recipes() if one.runs}
