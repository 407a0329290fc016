"""The gate of an environment: judges the evidence in the store, writes the verdict, and acts on it.

Green lets the promotion go on; red means that the candidate is refused, or that nothing usable was measured;
pink means that it is held for a person and that nobody has to get up.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from sevenfold.evidence.passing import says_passed
from sevenfold.evidence.store import Store, open_store
from sevenfold.gates.analyse import analyse
from sevenfold.gates.analysis import AnalysisRun
from sevenfold.gates.conclude import conclude
from sevenfold.gates.verdict import Verdict
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold_airflow.failures import as_airflow_sees_it
from sevenfold_airflow.links import EvidenceLink, promotion_of
from sevenfold_airflow.triggers import GateTrigger


class GateSensor(BaseSensorOperator):
    """Waits, deferred, as long as the verdict is Inconclusive and its deadline has not come.

    Everything is read from the store at each look, so it survives the death of any part of Airflow, and two
    tries of it conclude once. Nothing is read from XCom, and nothing reads what it pushes there.
    """

    ui_color = "#fde293"
    operator_extra_links = (EvidenceLink(),)

    def __init__(self, *, poll_seconds: float = 2.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.poll_seconds = poll_seconds

    def execute(self, context: Any) -> str:
        """Judges what is there now."""
        return self._look(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> str:
        """Judges again after the trigger saw a reason to; the event itself decides nothing."""
        self.log.info("woken: %s", event.get("why", "no reason given"))
        return self._look(context)

    def _look(self, context: Any) -> str:
        run = context["dag_run"]
        with as_airflow_sees_it():
            store = open_store()
            promotion = store.promotion(promotion_of(run.dag_id, run.run_id))
            if promotion.state != "running":
                return self._act_on(promotion)
            analysis = analyse(store, promotion.id, datetime.now(UTC))
            store.record_analysis(analysis)
            self._say(analysis)
            if analysis.verdict is Verdict.INCONCLUSIVE and not analysis.overdue and analysis.decide_by:
                self._wait_until(promotion, analysis.decide_by)
            if analysis.verdict is Verdict.ERROR and _has_tries_left(context["ti"]):
                raise AirflowException(f"Error, measured again or judged again: {analysis.reason}")
            return self._act_on(self._conclude(store, promotion, analysis))

    def _conclude(self, store: Store, promotion: Promotion, analysis: AnalysisRun) -> Promotion:
        """Writes analysis, signed statement and end; a candidate that is live and did not pass comes off.

        What it says of a candidate that passed may have been taken back meanwhile: then that comes off too.
        """
        promotion = conclude(store, promotion.id, analysis)
        if promotion.state == "running" and not _passed(store, promotion):
            release.settle(store, promotion.id, by="gate")
        return store.promotion(promotion.id)

    def _act_on(self, promotion: Promotion) -> str:
        sentence = f"{promotion.candidate}: {promotion.outcome or 'good enough'}"
        if promotion.state == "held":
            raise AirflowSkipException(f"held: {sentence}")
        if promotion.state not in ("promoted", "running"):
            raise AirflowFailException(f"{promotion.state}: {sentence}")
        return sentence

    def _wait_until(self, promotion: Promotion, decide_by: datetime) -> None:
        # The trigger ends by itself at the deadline; the timeout is for one that nobody runs.
        left = decide_by - datetime.now(UTC) + timedelta(minutes=5)
        trigger = GateTrigger(promotion.id, decide_by.isoformat(), self.poll_seconds)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=left)

    def _say(self, analysis: AnalysisRun) -> None:
        for metric in analysis.metrics:
            of = f" of {metric.slice}" if metric.slice else ""
            self.log.info("%s %s%s: %s", metric.verdict, metric.metric, of, metric.reason)
        self.log.info("verdict: %s. %s", analysis.verdict, analysis.reason)


def _passed(store: Store, promotion: Promotion) -> bool:
    """Whether this run itself passed, and what it said still stands; an earlier run's evidence is no help."""
    with store.reading() as connection:
        own = says_passed(connection, promotion.id)
    return own and store.passed(promotion.candidate or "", promotion.environment)


def _has_tries_left(ti: Any) -> bool:
    return bool(ti.try_number <= ti.max_tries)
