"""All Secrets of a cluster: those that the manifests ask for, always the same, each as small as it can be."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url, text
from tests.sevenfold.postgresql import running
from typer.testing import CliRunner

from sevenfold.cli.main import app
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import grants
from sevenfold.evidence.database import Database
from sevenfold.evidence.store import open_store, upgrade
from sevenfold.kubernetes.cluster_secrets import IN_CLUSTER, cluster_secrets
from sevenfold.settings import Settings

EXAMPLE = Path(__file__).resolve().parents[3] / "include" / "kubernetes" / "secrets.example.yaml"
ARTIFACTS = "s3://sevenfold/mlflow"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def content(secret: dict[str, Any]) -> dict[str, str]:
    coded = {name: base64.b64decode(value).decode() for name, value in secret.get("data", {}).items()}
    return coded | secret.get("stringData", {})


def by_place(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, str]]:
    return {(one["metadata"]["namespace"], one["metadata"]["name"]): content(one) for one in found}


def test_they_are_those_that_a_cluster_has_to_bring(tmp_path: Path) -> None:
    made = by_place(cluster_secrets(tmp_path, IN_CLUSTER, ARTIFACTS))
    listed = yaml.safe_load(EXAMPLE.read_text())
    assert set(made) == {(space, name) for name, one in listed.items() for space in one["namespaces"]}
    for (space, name), values in made.items():
        only = {key for key, said in listed[name]["keys"].items() if "only" in said}
        assert set(listed[name]["keys"]) - only <= set(values) <= set(listed[name]["keys"]), (space, name)
        assert all(values.values()), (space, name)


def test_every_password_is_another_and_stays(tmp_path: Path) -> None:
    first = cluster_secrets(tmp_path, IN_CLUSTER, ARTIFACTS)
    assert by_place(cluster_secrets(tmp_path, IN_CLUSTER, ARTIFACTS)) == by_place(first)
    made = by_place(first)
    logins = made["sevenfold-airflow", "sevenfold-logins"]
    passwords = {make_url(url).password for url in logins.values()}
    owner = make_url(made["sevenfold-airflow", "sevenfold-owner"]["SEVENFOLD_EVIDENCE_URL"])
    assert len(passwords | {owner.password}) == len(logins) + 1
    assert made["sevenfold-storage", "postgresql"]["password"] == owner.password
    training = make_url(made["sevenfold-training", "sevenfold"]["SEVENFOLD_EVIDENCE_URL"])
    assert (training.username, training.database) == ("sevenfold_training", "sevenfold")
    for (space, name), values in made.items():
        others = {url for role, url in logins.items() if role not in (space.removeprefix("sevenfold-"), name)}
        if space == "sevenfold-training":
            assert not others & set(values.values())
            assert "signing.pem" not in values and "gateway_keys.json" not in values
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600


def test_a_cluster_with_a_database_and_a_storage_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = "postgres://boss:theirs@db.example.com:6432/evidence?sslmode=verify-full&sslrootcert=/ca.pem"
    made = by_place(cluster_secrets(tmp_path, theirs, ARTIFACTS))
    assert not [space for space, _ in made if space == "sevenfold-storage"]
    assert "AWS_ACCESS_KEY_ID" not in made["sevenfold-training", "sevenfold"], "accounts have an identity"
    url = make_url(made["sevenfold-airflow", "airflow"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    assert (url.drivername, url.host, url.port, url.database) == (
        *("postgresql+psycopg", "db.example.com", 6432, "airflow"),
    )
    assert url.query["sslmode"] == "verify-full"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    made = by_place(cluster_secrets(tmp_path, theirs, ARTIFACTS))
    assert made["sevenfold-training", "sevenfold"]["AWS_SECRET_ACCESS_KEY"] == "secret"
    with pytest.raises(SevenfoldError, match="needs its owner's password"):
        cluster_secrets(tmp_path, "postgresql://boss@db.example.com/evidence", ARTIFACTS)
    with pytest.raises(SevenfoldError, match="in PostgreSQL"):
        cluster_secrets(tmp_path, "sqlite:////x/evidence.db", ARTIFACTS)


def test_the_command_prints_what_kubectl_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevenfold.settings.settings", lambda: Settings(home=tmp_path))
    result = CliRunner().invoke(app, ["cluster-secrets"])
    assert result.exit_code == 0, result.output
    assert by_place(list(yaml.safe_load_all(result.output))) == by_place(
        cluster_secrets(tmp_path / "secrets", IN_CLUSTER, ARTIFACTS)
    )


@pytest.mark.postgresql
def test_the_migration_lets_in_whom_the_secrets_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Job does: roles with the Secret's passwords, databases of the others; twice as once."""
    made = by_place(cluster_secrets(tmp_path, IN_CLUSTER, ARTIFACTS))
    folder = tmp_path / "logins"
    folder.mkdir()
    with running(hba="local all sevenfold trust\nlocal all all scram-sha-256\n") as server:
        for name, url in made["sevenfold-airflow", "sevenfold-logins"].items():
            (folder / name).write_text(url)
        monkeypatch.setattr("sevenfold.evidence.grants.mounted", lambda path: path == folder)
        upgrade(server.url)
        for _ in range(2):
            said = grants.grant_roles(Database(server.url), logins=folder)
        assert said[-2:] == ["airflow", "mlflow"]
        assert (folder / "training").read_text() == made["sevenfold-training", "sevenfold"][
            "SEVENFOLD_EVIDENCE_URL"
        ]
        for name in grants.RIGHTS:
            there = make_url((folder / name).read_text()).set(host=None, database="postgres")
            open_store(there.update_query_dict({"host": str(server.folder)}).render_as_string(False))
        for name in grants.NEIGHBOURS:
            there = make_url((folder / name).read_text()).set(host=None)
            own = Database(there.update_query_dict({"host": str(server.folder)}).render_as_string(False))
            with own.writing() as connection:
                connection.execute(text("CREATE TABLE mine (number integer)"))
        (folder / "training").unlink()
        grants.grant_roles(Database(server.url), logins=folder)
        assert not (folder / "training").exists(), "in a Secret nothing is made"
