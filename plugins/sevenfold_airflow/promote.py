"""The last task of an environment: lets the candidate go on, if the evidence says so."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, BaseOperator

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.passing import says_passed
from sevenfold.evidence.store import Store, open_store
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold_airflow.failures import as_airflow_sees_it
from sevenfold_airflow.links import EvidenceLink, promotion_of


class NotPromoted(SevenfoldError):
    """The evidence does not carry the promotion, whatever colour the gate's task has."""


class PromoteOperator(BaseOperator):
    """Checks the evidence itself, ends the promotion, and updates the asset that wakes the next environment.

    Upstream success is no evidence: whoever may run a DAG can mark any task successful.
    """

    ui_color = "#e6f4ea"
    operator_extra_links = (EvidenceLink(),)

    def __init__(self, *, asset: Asset, **arguments: Any) -> None:
        super().__init__(outlets=[asset], **arguments)
        self.asset = asset

    def execute(self, context: Any) -> None:
        """Promotes the candidate of this run."""
        run = context["dag_run"]
        with as_airflow_sees_it():
            promotion = promote(open_store(), promotion_of(run.dag_id, run.run_id))
        extra = {"candidate": promotion.candidate, "promotion": promotion.id}
        context["outlet_events"][self.asset].extra.update(extra)
        self.log.info("%s promoted out of %s", promotion.candidate, promotion.environment)


def promote(store: Store, identity: str) -> Promotion:
    """Ends a promotion as promoted. Done twice it changes nothing.

    Raises:
        NotPromoted: there is no valid passing statement, or the promotion has ended otherwise.
    """
    promotion = store.promotion(identity)
    if promotion.state not in ("running", "promoted"):
        raise NotPromoted(f"promotion {identity} has ended as {promotion.state}: {promotion.outcome}")
    if promotion.candidate is None:
        raise NotPromoted(f"promotion {identity} carries no candidate")
    with store.reading() as connection:
        own = says_passed(connection, identity)
    if not own or not store.passed(promotion.candidate, promotion.environment):
        raise NotPromoted(
            f"{promotion.candidate} has no complete, valid, passing evidence of {promotion.environment} "
            f"from promotion {identity}: the gate has to judge it, nobody else can"
        )
    if promotion.environment == "production":
        release.promote(store, identity, by="promote")
        return store.promotion(identity)
    analyses = store.analyses(identity)
    if not analyses:
        raise NotPromoted(f"promotion {identity} has no analysis: the gate has not judged it")
    return store.end_promotion(identity, "promoted", str(analyses[-1].verdict), analyses[-1].reason)
