"""Passwords: made once, kept private, never silently wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevenfold.secrets import AIRFLOW_USERS, UnsafeSecrets, airflow_passwords


def test_made_at_first_start_and_kept(tmp_path: Path) -> None:
    first = airflow_passwords(tmp_path / "secrets")
    assert set(first) == set(AIRFLOW_USERS)
    assert len(set(first.values())) == len(AIRFLOW_USERS)
    assert airflow_passwords(tmp_path / "secrets") == first


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    airflow_passwords(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets/airflow.json").stat().st_mode & 0o777 == 0o600


def test_a_readable_file_is_refused(tmp_path: Path) -> None:
    airflow_passwords(tmp_path)
    (tmp_path / "airflow.json").chmod(0o644)
    with pytest.raises(UnsafeSecrets, match=r"airflow\.json can be read by others"):
        airflow_passwords(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"admin": "x"})])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    airflow_passwords(tmp_path)
    (tmp_path / "airflow.json").write_text(content)
    with pytest.raises(UnsafeSecrets, match="does not hold the passwords"):
        airflow_passwords(tmp_path)
