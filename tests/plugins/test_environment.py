"""What the embedded Airflow is told, and who may read its secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sevenfold.settings import Settings
from sevenfold_airflow.environment import airflow_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", airflow_url="http://127.0.0.1:18123")


def test_it_listens_on_loopback_only_and_shares_its_keys(here: Settings) -> None:
    first, second = airflow_environment(here), airflow_environment(here)
    assert first == second
    assert (first["AIRFLOW__API__HOST"], first["AIRFLOW__API__PORT"]) == ("127.0.0.1", "18123")
    assert first["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18123/execution/"
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) > 60
    assert first["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin,approver:user,viewer:viewer"


def test_secrets_are_private_and_differ_between_installations(here: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    mine, theirs = airflow_environment(here), airflow_environment(other)
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY"):
        assert mine[name] != theirs[name]
    for file in here.secrets.glob("*.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {file.name for file in here.secrets.glob("*.json")} == {"airflow.json", "airflow_keys.json"}
    assert stat.S_IMODE((here.home / "airflow").stat().st_mode) == 0o700


def test_airflow_knows_every_option(here: Settings) -> None:
    """An option that Airflow has renamed would be ignored in silence."""
    program = (
        "import os, sys\n"
        "from airflow.configuration import conf\n"
        "known = conf.configuration_description\n"
        "for name in os.environ:\n"
        "    if name.startswith('AIRFLOW__'):\n"
        "        _, section, option = name.split('__')\n"
        "        if option.lower() not in known.get(section.lower(), {}).get('options', {}):\n"
        "            print(name)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"]} | airflow_environment(here),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
