"""The Airflow plugin of Sevenfold: its page in the navigation, and the pages of evidence and reports.

Airflow imports plugins in every component and every task; only the api-server needs the pages, so only there
they are built.
"""

from __future__ import annotations

import sys
from typing import Any

from airflow.plugins_manager import AirflowPlugin


def _apps() -> list[dict[str, Any]]:
    if sys.argv[1:2] != ["api-server"]:
        return []
    from sevenfold_airflow.board_app import app

    return [{"app": app, "url_prefix": "/sevenfold", "name": "sevenfold"}]


def _views() -> list[dict[str, Any]]:
    evidence = "/sevenfold/run?dag_id={DAG_ID}&run_id={RUN_ID}"
    report = "/sevenfold/task?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}"
    return [
        {"name": "Sevenfold", "href": "/sevenfold/", "url_route": "sevenfold", "nav_top_level": True},
        {"name": "Evidence", "href": evidence, "url_route": "evidence", "destination": "dag_run"},
        {"name": "Report", "href": report, "url_route": "report", "destination": "task_instance"},
    ]


class Sevenfold(AirflowPlugin):
    """What Airflow loads."""

    name = "sevenfold"
    fastapi_apps = _apps()
    external_views = _views()
