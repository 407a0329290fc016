"""Each image has what its programs import and may ask for later: in a virtual environment of its packages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache

import pytest
import tests.airflow_home  # noqa: F401  # before anything imports Airflow
from airflow.dag_processing.dagbag import DagBag
from tests.docker import named
from tests.docker.conftest import Of
from tests.docker.making import ROOT, held, recipes
from tests.docker.venvs import HERE, IMPORTED, PACKAGES, Venv

from sevenfold.model.spec import load_spec, models
from sevenfold_airflow.pod import PodOperator

OF_ACTIVITIES = {one.name for one in recipes() if one.parent and one.parent.name == "common"}
RUN = sorted(one.name for one in recipes() if one.runs)
"""Images that anything runs."""
NOT_CALLED = {
    # Networks are fitted and exported in the trainer, baselines there and where a model is tested.
    "torch": {"activities", "airflow", "gateway", "loadtest", "quality", "security", "server"},
    "onnx": {"activities", "quality"},
    "sklearn": {"activities", "airflow", "gateway", "loadtest", "security", "server"},
    # Replicas and MLflow are processes that we start on one machine only: the image `machine` has them.
    "supervisor": {"activities", "airflow", "gateway", "loadtest", "quality", "security"},
    "mlflow": {"airflow"},
    # What a replica needs is named by who starts one as a process, and by what a mirror has of the server.
    "httptools": {"activities", "gateway", "loadtest", "security"},
    "msgspec": {"activities", "gateway", "loadtest", "security"},
    "obstore": {"gateway"},
    "onnxruntime": {"airflow", "gateway"},
    "prometheus_client": {"activities", "airflow", "gateway", "loadtest", "security"},
    "uvicorn": {"loadtest"},
    "uvloop": {"gateway"},
    # Replicas write predictions: they, the rail and the gateway read none. Airflow alone judges by numbers.
    "pyarrow": {"airflow", "gateway", "server"},
    "scipy": {"gateway", "server"},
}
"""What code names that an image has, in functions that nobody calls there: the package, and these images."""


@cache
def programs() -> dict[str, list[str]]:
    """Modules that run in each image: its entrypoint, activities and their models, what watches a cluster."""
    bag = DagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags")
    found = {one.name: set(re.findall(r'ENTRYPOINT .*"(sevenfold[a-z.]+)"', one.text)) for one in recipes()}
    found["activities"] |= {"sevenfold.release.reconciler", "sevenfold.monitoring.watchman"}
    for dag in bag.dags.values():
        for task in dag.tasks:
            if isinstance(task, PodOperator):
                found.setdefault(str(task.image), set()).add(task.cmds[-1])
    for image in OF_ACTIVITIES:
        found[image] |= of_models("data")
    found["trainer"] |= of_models("network")
    found["quality"] |= of_models("expectations")
    found["airflow"] = {
        f"sevenfold_airflow.{path.stem}" for path in (ROOT / "plugins/sevenfold_airflow").glob("*.py")
    }
    found["airflow"] |= {
        "sevenfold.local.stack",
        "sevenfold.release.going_back",
        "sevenfold.evidence.revoke",
    }  # sevenfold's commands
    found["machine"].add("sevenfold.local.part")
    return {image: sorted(modules) for image, modules in found.items()}


def of_models(entry_point: str) -> set[str]:
    """The modules of all models that their model.yaml names for one purpose."""
    named = (load_spec(model).entry_points.get(entry_point, "") for model in models())
    return {name.partition(":")[0] for name in named} - {""}


OTHERS = {
    # what `airflow scheduler` and its like run, and where our values send logs
    "airflow": {
        "airflow.api_fastapi.app",
        "airflow.executors.local_executor",
        "airflow.jobs.dag_processor_job_runner",
        "airflow.jobs.scheduler_job_runner",
        "airflow.jobs.triggerer_job_runner",
        "airflow.providers.amazon.aws.log.s3_task_handler",
        "airflow.providers.cncf.kubernetes.executors.kubernetes_executor",
    },
    "mlflow": {"boto3", "mlflow.cli", "mlflow.server.fastapi_app", "psycopg"},
    "testbed": named.by(ROOT / "docker/testbed/testbed.py"),
}
"""Modules of others that programs of an image begin with, without any of ours."""


def test_every_image_of_the_dags_has_its_folder() -> None:
    assert set(programs()) == {one.name for one in recipes()}
    assert {image for image in RUN if programs()[image] or image in OTHERS} == set(RUN)


@pytest.mark.parametrize("image", RUN)
def test_an_image_has_what_its_programs_import(venv: Of, image: str) -> None:
    assert not complaints(venv(image), {*programs()[image], *OTHERS.get(image, ())})


def test_one_machine_has_what_each_image_has_whose_programs_run_on_it() -> None:
    assert {image for image in RUN if held(image) <= held("machine")} == {*RUN} - {"testbed"}


def test_what_an_image_lacks_is_noticed(venv: Of) -> None:
    said = complaints(venv("server", "onnxruntime", "orjson"), ["sevenfold.serving.server"])
    assert "No module named" in said


def test_what_comes_from_outside_is_noticed(venv: Of) -> None:
    open_one = venv("python", "walls")
    (open_one.folder / PACKAGES / "out.pth").write_text(str(HERE / PACKAGES))
    assert f"orjson: from {HERE}" in complaints(open_one, ["orjson"])


@pytest.mark.parametrize("image", RUN)
def test_an_image_has_what_its_programs_may_ask_for(venv: Of, image: str) -> None:
    """Imports inside functions, which no import of a module shows; what nobody calls there is on a list."""
    asked = named.packages(programs()[image])
    lacking = asked.keys() - venv(image).finds(asked)
    listed = {package for package, images in NOT_CALLED.items() if image in images}
    ways = [asked.get(one, f"{one}: nobody names it") for one in sorted(lacking ^ listed)]
    assert lacking == listed, f"{image}: requirements.txt and `make lock`, or NOT_CALLED\n" + "\n".join(ways)


def test_a_package_that_only_a_function_names_is_missed(venv: Of) -> None:
    asked = named.packages(["activities.development.explore"])
    assert asked["matplotlib"].startswith("matplotlib <- sevenfold.reports.")
    assert asked.keys() - venv("activities", "matplotlib").finds(asked) >= {"matplotlib"}


@pytest.mark.parametrize(
    ("image", "command"),
    [
        ("airflow", "airflow version"),
        ("gateway", "envoy --version"),
        ("loadtest", "envoy --version"),
        ("loadtest", "python -m locust --version"),
        ("machine", "envoy --version"),
        ("machine", "supervisord --version"),
        ("quality", "envoy --version"),
        ("quality", "python -m pytest --version"),
        ("quality", "schemathesis --version"),
        ("trainer", "python -m sevenfold.training.torchrun --help"),
    ],
)
def test_an_image_has_what_its_programs_start(venv: Of, image: str, command: str) -> None:
    run = venv(image).run(*command.split())
    assert not run.returncode, run.stderr


def complaints(of: Venv, modules: Iterable[str]) -> str:
    """What it cannot import of these, and what it takes from outside; empty if nothing."""
    paths = os.pathsep.join(str(ROOT / room) for room in ("include", "plugins"))
    run = of.run("python", "-P", str(IMPORTED), *modules, PYTHONPATH=paths)
    return run.stderr if run.returncode else ""
