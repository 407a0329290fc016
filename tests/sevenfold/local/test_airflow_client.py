"""Airflow's API as the demo and the command line see it, against a transport that misbehaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from sevenfold.local import airflow_client
from sevenfold.local.airflow_client import AirflowClient, AirflowError

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[int]], AirflowClient]:
    monkeypatch.setattr(airflow_client, "PAUSE_S", 0.0)

    def made(statuses: Iterator[int]) -> AirflowClient:
        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/auth/token":
                return httpx.Response(201, json={"access_token": "t"})
            status = next(statuses)
            return httpx.Response(status, json={"detail": f"status {status}", "dag_runs": []})

        client = AirflowClient("http://airflow", "admin", "x")
        client._http = httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(answer))
        return client

    return made


def test_a_passing_trouble_passes(client: Callable[[Iterator[int]], AirflowClient]) -> None:
    assert client(iter([500, 503, 200])).trigger("d", {}, "r") is True
    assert client(iter([500, 409])).trigger("d", {}, "r") is False  # it had been started after all


def test_a_lasting_trouble_is_one_sentence(client: Callable[[Iterator[int]], AirflowClient]) -> None:
    with pytest.raises(AirflowError, match=r"refused POST /api/v2/dags/d/dagRuns \(500\): status 500"):
        client(iter([500] * 4)).trigger("d", {}, "r")


def test_what_is_wrong_is_not_repeated(client: Callable[[Iterator[int]], AirflowClient]) -> None:
    with pytest.raises(AirflowError, match=r"\(404\)"):
        client(iter([404])).trigger("d", {}, "r")


def test_an_answer_that_counts_once_is_sent_once(client: Callable[[Iterator[int]], AirflowClient]) -> None:
    task = {"dag_id": "d", "dag_run_id": "r", "task_id": "t", "map_index": -1}
    with pytest.raises(AirflowError, match=r"\(500\)"):
        client(iter([500])).answer({"task_instance": task}, "Approve", {})


def test_an_expired_token_is_renewed(client: Callable[[Iterator[int]], AirflowClient]) -> None:
    assert client(iter([401, 200])).runs() == []


def test_more_dags_than_airflow_gives_at_once_are_all_known() -> None:
    """Eight a model: with the thirteenth model `make up` did not come to its end."""
    there = [{"dag_id": f"model_{number}.training"} for number in range(airflow_client.PAGE * 2 + 1)]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        at, most = int(request.url.params["offset"]), min(int(request.url.params["limit"]), 100)
        return httpx.Response(200, json={"dags": there[at : at + most], "total_entries": len(there)})

    client = AirflowClient("http://airflow", "admin", "x")
    client._http = httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(answer))
    assert client.dags() == there
