"""The last word on a run: no promotion stays open when its run has failed before its gate."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import open_store
from sevenfold.release.promotion import UnknownPromotion
from sevenfold_airflow.failures import as_airflow_sees_it
from sevenfold_airflow.links import promotion_of


class CloseOperator(BaseOperator):
    """Runs when something before it failed: ends the promotion as error if it is open, and fails the run.

    It fails itself because Airflow takes the colour of a run from its last task.
    """

    ui_color = "#f5f5f5"

    def execute(self, context: Any) -> None:
        """Ends the promotion of this run, naming the tasks that failed, and why. The first end wins."""
        run, tasks = context["dag_run"], _failed(context)
        failed = ", ".join(tasks) or "a task"
        with as_airflow_sees_it():
            store = open_store()
            try:
                promotion = store.promotion(promotion_of(run.dag_id, run.run_id))
            except UnknownPromotion as unknown:
                raise AirflowFailException(f"{failed} failed, and no promotion had begun") from unknown
            if promotion.state == "running":
                reason = f"{failed} failed before the gate could judge"
                said = store.failures(promotion.id)
                reason += "".join(f"; {task} last said: {said[task]}" for task in tasks if task in said)
                promotion = store.end_promotion(promotion.id, "error", "Error", reason)
        raise AirflowFailException(f"{promotion.state}: {promotion.outcome}")


def _failed(context: Any) -> list[str]:
    run = context["dag_run"]
    states = context["ti"].get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])
    return sorted(task for task, state in states.get(run.run_id, {}).items() if state == "failed")


class FinishOperator(BaseOperator):
    """Ends the promotion of an environment that has no gate: its activities have done what they are for."""

    ui_color = "#e6f4ea"

    def execute(self, context: Any) -> None:
        """Ends the promotion of this run."""
        run = context["dag_run"]
        with as_airflow_sees_it():
            open_store().end_promotion(
                promotion_of(run.dag_id, run.run_id), "promoted", "Successful", "all activities are done"
            )


def leave_word(context: Any) -> None:
    """For `close`: why the last try of an activity failed, where its program had no chance to say it itself.

    A program that ended by itself has left its sentence. One that was killed, or whose pod found no node, no
    image or no memory, has left none, or that of an earlier try.
    """
    why, run, task = context.get("exception"), context["dag_run"], context["ti"]
    promotion = promotion_of(run.dag_id, run.run_id)
    with suppress(SevenfoldError):  # the task's log has it, whatever becomes of the evidence store
        store = open_store()
        if why and task.task_id not in store.failures(promotion, since=task.start_date):
            store.activity_failed(task.task_id, promotion, str(why))
