"""All Secrets of a cluster at once, as include/kubernetes/secrets.example.yaml lists them.

Passwords are made once and kept in `<secrets>/cluster.json`, so that the same is printed again. The database
gets its roles with these passwords from the Job evidence-migrate, to which `sevenfold-logins` brings them.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import grants
from sevenfold.evidence.database import database_url
from sevenfold.kubernetes.secret_files import AIRFLOW, secret_files
from sevenfold.secrets import is_private, private_folder, write_private

STORAGE = "sevenfold-storage"
"""Namespace of the component storage, which brings a database and an object storage."""
IN_CLUSTER = f"postgresql://sevenfold@postgresql.{STORAGE}.svc/sevenfold"
SERVING = ("staging", "preproduction", "production")
MOVING = ("preproduction", "production")
"""Where activities move live traffic, as an account and a role of their own."""
KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"  # pragma: allowlist secret
EVIDENCE = "SEVENFOLD_EVIDENCE_URL"


@dataclass(frozen=True)
class Passwords:
    """Passwords and keys of one cluster, each made when it is first asked for."""

    file: Path

    def __getitem__(self, name: str) -> str:
        return self._kept(name, secrets.token_urlsafe(24))

    def fernet(self) -> str:
        """A key for Airflow's connections."""
        return self._kept("fernet", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())

    def _kept(self, name: str, fresh: str) -> str:
        known: dict[str, str] = json.loads(self.file.read_text()) if self.file.exists() else {}
        if self.file.exists() and not is_private(self.file):
            raise SevenfoldError(f"{self.file} can be read by others: run chmod 600 {self.file}")
        if name not in known:
            known[name] = fresh
            private_folder(self.file.parent)
            write_private(self.file, json.dumps(known, indent=1))
        return known[name]


def cluster_secrets(folder: Path, database: str, mlflow_artifacts: str) -> list[dict[str, Any]]:
    """Every Secret that a cluster has to have before its pods start; makes the passwords that lack.

    Keys of object storage are those of this process (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). Without any,
    the component storage gets fresh ones, and other clusters none: their accounts have an identity there.

    Args:
        folder: of the secrets of this machine: keys that sign evidence are taken along.
        database: its owner's URL; without a password one is made, for the component storage.

    Raises:
        SevenfoldError: `database` is no PostgreSQL, or needs a password that it does not have.
    """
    owner, made = database_url(database), Passwords(folder / "cluster.json")
    if owner.get_backend_name() != "postgresql":
        raise SevenfoldError("the evidence of a cluster is in PostgreSQL: a file of SQLite is one machine's")
    ours = (owner.host or "").endswith(f".{STORAGE}.svc")
    if owner.password is None and not ours:
        raise SevenfoldError(f"{owner.render_as_string()} needs its owner's password: only ours is made here")
    owner = owner if owner.password else owner.set(password=made["owner"])
    keys = {KEY: os.environ.get(KEY, ""), SECRET: os.environ.get(SECRET, "")}
    if not all(keys.values()):
        keys = {KEY: "sevenfold", SECRET: made["objects"]} if ours else {}

    def url(name: str) -> str:
        return _url(owner.set(username=f"{grants.PREFIX}_{name}", password=made[name]))

    found = [secret_files(folder, of) for of in (*ENVIRONMENTS, AIRFLOW)]
    found += [_secret("sevenfold", one, {EVIDENCE: url(one), **keys}) for one in ENVIRONMENTS]
    found.append(_secret("sevenfold", AIRFLOW, {EVIDENCE: url("promoter"), **keys}))
    for environment in MOVING:
        role = f"{environment}_promoter"
        found.append(_secret("sevenfold-promoter", environment, {EVIDENCE: url(role)}))
    for environment in SERVING:
        found.append(_secret("sevenfold-server", environment, {EVIDENCE: url("server"), **keys}))
        found.append(_secret("sevenfold-gateway", environment, {EVIDENCE: url("gateway")}))
    found.append(_secret("sevenfold-owner", AIRFLOW, {EVIDENCE: _url(owner)}))
    neighbours = {
        name: _url(owner.set(username=name, database=name, password=made[name])) for name in grants.NEIGHBOURS
    }
    logins = {name: url(name) for name in grants.RIGHTS} | neighbours
    found.append(_secret("sevenfold-logins", AIRFLOW, logins))
    found.append(_secret("airflow", AIRFLOW, _airflow(neighbours["airflow"], made)))
    mlflow = {
        "MLFLOW_BACKEND_STORE_URI": neighbours["mlflow"].replace(":", "+psycopg:", 1),
        "MLFLOW_ARTIFACTS_DESTINATION": mlflow_artifacts,
    }
    found.append(_secret("mlflow", "mlflow", mlflow | keys))
    if ours:
        found.append(_secret("postgresql", "storage", {"password": owner.password or ""}))
        found.append(_secret("objects", "storage", keys))
    return found


def _airflow(url: str, made: Passwords) -> dict[str, str]:
    database = url.replace(":", "+psycopg:", 1)
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
        "AIRFLOW__CORE__FERNET_KEY": made.fernet(),
        "AIRFLOW__API__SECRET_KEY": made["airflow api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": made["airflow jwt"],
    }


def _url(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _secret(name: str, namespace: str, content: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": f"sevenfold-{namespace}",
            "labels": {"app.kubernetes.io/part-of": "sevenfold"},
        },
        "type": "Opaque",
        "stringData": dict(content),
    }
