"""airflow_settings.yaml: the Astro CLI's format, read strictly and loaded into Airflow's database."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.models import Connection, Pool, Variable
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

from sevenfold_airflow.pod_settings import PodSettings
from sevenfold_airflow.rail import EVERY_SLOT, POOL
from sevenfold_airflow.settings_file import MalformedSettings, load_settings_file, read_settings_file

ROOT = Path(__file__).resolve().parents[2]

FILE = """\
airflow:
  connections:
    - conn_id: somewhere
      conn_type: http
      conn_host: example.org
      conn_port: 80
      conn_extra: {key: {nested: 1}}
    - conn_id:
      conn_type:
  pools:
    - {pool_name: narrow, pool_slot: 2, pool_description: two at a time}
  variables:
    - {variable_name: colour, variable_value: blue}
"""


@pytest.fixture(scope="module", autouse=True)
def database() -> None:
    initdb()


def test_the_file_wins_each_time_it_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "airflow_settings.yaml"
    for slots, colour in ((2, "blue"), (3, "red")):
        file.write_text(FILE.replace("pool_slot: 2", f"pool_slot: {slots}").replace("blue", colour))
        load_settings_file(file)
        with create_session() as session:
            pool = session.scalars(select(Pool).where(Pool.pool == "narrow")).one()
            connection = session.scalars(select(Connection).where(Connection.conn_id == "somewhere")).one()
            assert (pool.slots, pool.description) == (slots, "two at a time")
            assert (connection.host, connection.port) == ("example.org", 80)
            assert connection.extra_dejson == {"key": {"nested": 1}}
            stored = session.scalars(select(Variable).where(Variable.key == "colour")).one()
            assert stored.val == colour


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("airflow: {pools: [{pool_nam: x}]}", "pools has no key pool_nam"),
        ("airflow: {pool: []}", "section pool is none of connections, pools, variables"),
        ("airflow: [", "is not the YAML"),
        ("- 1", "is not the YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "airflow_settings.yaml"
    file.write_text(content)
    with pytest.raises(MalformedSettings, match=said) as wrong:
        read_settings_file(file)
    assert str(file) in str(wrong.value)


def test_ours_has_what_the_dags_need() -> None:
    ours = read_settings_file(ROOT / "airflow_settings.yaml")
    pools = {pool["pool_name"]: pool["pool_slot"] for pool in ours["pools"]}
    assert pools[POOL] == EVERY_SLOT, "a load test has to take every slot of a laptop"
    [connection] = ours["connections"]
    assert connection["conn_id"] == "kubernetes_default"
    assert PodSettings.of(connection["conn_extra"]).runtime == "local"
