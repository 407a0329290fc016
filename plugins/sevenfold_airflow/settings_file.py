"""Loads airflow_settings.yaml (the Astro CLI's format) into Airflow's pools, connections and variables.

The file wins over what stands in the database, as with the Astro CLI: what a person changed in the UI stays
only until the next start, and what is to stay is written into the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sevenfold.errors import SevenfoldError

KEYS = {
    "connections": {
        "conn_id",
        "conn_type",
        "conn_host",
        "conn_schema",
        "conn_login",
        "conn_password",
        "conn_port",
    }
    | {"conn_uri", "conn_extra"},
    "pools": {"pool_name", "pool_slot", "pool_description"},
    "variables": {"variable_name", "variable_value"},
}


class MalformedSettings(SevenfoldError):
    """airflow_settings.yaml says something that Airflow has no place for."""


def read_settings_file(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The file's connections, pools and variables; entries without a name are left out, as Astro does.

    Raises:
        MalformedSettings: not YAML, or an unknown section or key.
    """
    import yaml

    try:
        content = (yaml.safe_load(path.read_text()) or {}).get("airflow") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise MalformedSettings(f"{path} is not the YAML that the Astro CLI writes: {error}") from error
    sections: dict[str, list[dict[str, Any]]] = {}
    for section, entries in content.items():
        if section not in KEYS:
            raise MalformedSettings(f"{path}: section {section} is none of {', '.join(KEYS)}")
        for entry in entries or []:
            if unknown := sorted(set(entry) - KEYS[section]):
                raise MalformedSettings(f"{path}: {section} has no key {unknown[0]}")
        name = {"connections": "conn_id", "pools": "pool_name", "variables": "variable_name"}[section]
        sections[section] = [entry for entry in entries or [] if entry.get(name)]
    return sections


def load_settings_file(path: Path) -> None:
    """Writes the file's entries into Airflow's database."""
    from airflow.models import Connection, Pool
    from airflow.models import Variable as StoredVariable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    entries = read_settings_file(path)
    with create_session() as session:
        for given in entries.get("pools", []):
            Pool.create_or_update_pool(
                given["pool_name"],
                slots=int(given.get("pool_slot") or 1),
                description=given.get("pool_description") or "",
                include_deferred=False,
                session=session,
            )
        for given in entries.get("connections", []):
            old = session.scalar(select(Connection).where(Connection.conn_id == given["conn_id"]))
            if old is not None:
                session.delete(old)
                session.flush()
            session.add(_connection(given))
        for given in entries.get("variables", []):
            StoredVariable.set(given["variable_name"], given.get("variable_value"), session=session)


def _connection(given: dict[str, Any]) -> Any:
    from airflow.models import Connection

    if given.get("conn_uri"):
        return Connection(conn_id=given["conn_id"], uri=given["conn_uri"])
    extra = given.get("conn_extra")
    return Connection(
        conn_id=given["conn_id"],
        conn_type=given.get("conn_type"),
        host=given.get("conn_host"),
        schema=given.get("conn_schema"),
        login=given.get("conn_login"),
        password=given.get("conn_password"),
        port=int(given["conn_port"]) if given.get("conn_port") else None,
        extra=json.dumps(extra) if isinstance(extra, dict) else extra,
    )
