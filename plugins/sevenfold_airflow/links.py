"""One click from a task to what it left: its report, and the evidence of its promotion."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink

from sevenfold.release.promotion import promotion_id


class ReportLink(BaseOperatorLink):
    """The main report of an activity."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """An address of the board, which knows the report."""
        query = {"promotion": promotion_of(ti_key.dag_id, ti_key.run_id), "activity": operator.task_id}
        return f"/sevenfold/report?{urlencode(query)}"


class EvidenceLink(BaseOperatorLink):
    """Everything that the promotion was decided on."""

    name = "Evidence"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """An address of the board."""
        return evidence_address(promotion_of(ti_key.dag_id, ti_key.run_id))


def promotion_of(dag_id: str, run_id: str) -> str:
    """The promotion that a run of the DAG `<model>.<environment>` is."""
    model, _, environment = dag_id.rpartition(".")
    return promotion_id(model, environment, run_id)


def evidence_address(promotion: str) -> str:
    """Where the board shows the evidence of a promotion."""
    return f"/sevenfold/evidence?{urlencode({'promotion': promotion})}"
