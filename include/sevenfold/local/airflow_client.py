"""Airflow's public REST API, as much of it as the command line and the demo need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from sevenfold import direct_http
from sevenfold.errors import SevenfoldError

TRIES, PAUSE_S = 4, 1.0
"""How often, and after how many seconds, a request that may be repeated is repeated."""
PAGE = 100
"""Entries of one answer: Airflow gives no more, whatever is asked for (api.maximum_page_limit)."""


class AirflowError(SevenfoldError):
    """Airflow refused a request, or is not there."""


class AirflowClient:
    """Signed in as one user. Every method is one request (two when the token has expired)."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._user, self._password = user, password
        self._http = direct_http.client(60, base_url=self.url)

    def trigger(self, dag_id: str, conf: Mapping[str, Any], run_id: str) -> bool:
        """Starts a run. False when a run of this id exists already: nothing is done twice."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        answer = self._request("POST", path, json=body, allow=(409,), tries=TRIES)
        return answer.status_code != httpx.codes.CONFLICT

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """One run: state, start_date, end_date, conf."""
        return self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")

    def runs(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """The newest runs of one DAG, or of all, at most `PAGE` of them."""
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        return list(self._get(path, limit=PAGE, order_by="-run_after")["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run: task_id, state, start_date, end_date, duration."""
        return list(self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def dags(self) -> list[dict[str, Any]]:
        """The DAGs that the processor knows."""
        return self._all("/api/v2/dags", "dags")

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that do not load."""
        return list(self._get("/api/v2/importErrors")["import_errors"])

    def asset_event(self, uri: str, extra: Mapping[str, Any]) -> None:
        """Reports an update of the asset `uri`, as a system outside may do.

        Raises:
            AirflowError: no DAG knows such an asset.
        """
        found = [asset for asset in self._all("/api/v2/assets", "assets") if asset["uri"] == uri]
        if not found:
            raise AirflowError(f"no DAG knows an asset {uri}")
        self._request(
            "POST", "/api/v2/assets/events", json={"asset_id": found[0]["id"], "extra": dict(extra)}
        )

    def awaiting_approval(self) -> list[dict[str, Any]]:
        """What waits for a person: subject, body, options and the task instance it belongs to."""
        path = "/api/v2/dags/~/dagRuns/~/hitlDetails"
        return list(self._get(path, response_received=False, limit=100)["hitl_details"])

    def answer(self, details: Mapping[str, Any], option: str, params: Mapping[str, Any]) -> None:
        """Answers one of `awaiting_approval` in this client's name."""
        task = details["task_instance"]
        path = (
            f"/api/v2/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
            f"/taskInstances/{task['task_id']}/{task['map_index']}/hitlDetails"
        )
        self._request("PATCH", path, json={"chosen_options": [option], "params_input": dict(params)})

    def healthy(self) -> bool:
        """Whether scheduler, triggerer and DAG processor all report health."""
        try:
            health = self._http.get("/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _all(self, path: str, of: str) -> list[dict[str, Any]]:
        """All entries of a list, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._get(path, limit=PAGE, offset=len(found))
            found += page[of]
            if not page[of] or len(found) >= page["total_entries"]:
                return found

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return dict(self._request("GET", path, params=query, tries=TRIES).json())

    def _request(
        self, method: str, path: str, *, allow: tuple[int, ...] = (), tries: int = 1, **arguments: Any
    ) -> httpx.Response:
        """One request, `tries` times if need be: only what may be repeated is tried more than once."""
        for left in reversed(range(tries)):
            try:
                if "authorization" not in self._http.headers:
                    self._sign_in()
                answer = self._http.request(method, path, **arguments)
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    self._sign_in()
                    answer = self._http.request(method, path, **arguments)
                if not answer.is_error or answer.status_code in allow:
                    return answer
                trouble = f"Airflow refused {method} {path} ({answer.status_code}): {_detail(answer)}"
                passing = answer.is_server_error
            except httpx.HTTPError as error:
                trouble = f"Airflow does not answer at {self.url}: {error or type(error).__name__}"
                passing = True
            if not passing or not left:
                break
            time.sleep(PAUSE_S)
        raise AirflowError(trouble)

    def _sign_in(self) -> None:
        body = {"username": self._user, "password": self._password}
        answer = self._http.post("/auth/token", json=body)
        if answer.is_error:
            raise AirflowError(
                f"Airflow does not let {self._user} sign in at {self.url} ({answer.status_code})"
            )
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"


def _detail(answer: httpx.Response) -> str:
    try:
        detail = str(answer.json().get("detail", answer.text))
        return detail.split("\n\n", maxsplit=1)[0][:500]  # the rest of a wrong field is its schema
    except (ValueError, AttributeError):
        return answer.text[:500]
