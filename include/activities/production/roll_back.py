"""Takes a candidate off live traffic, at once: the release row first, the router next, its replicas last.

A candidate that its gate did not pass is off the release row with the verdict, and one that was proven bad
leaves a hold there (see sevenfold.gates.conclude): should this task be killed or marked as done, the router
follows a moment later all the same. It hurries that, does the same where a task before the gate has failed,
and ends the replicas. Done twice it changes nothing. (A champion is taken back by a person: see
dags/roll_back.py.)
"""

from __future__ import annotations

from sevenfold.activity import Activity, run
from sevenfold.cluster import open_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gates.verdict import Verdict
from sevenfold.gateway import open_gateway
from sevenfold.release import release
from sevenfold.release.reconcile import reconcile
from sevenfold.serving.admission import LIVE

BY = "roll_back"


def main(activity: Activity) -> None:
    """Takes the candidate of the promotion off."""
    store, promotion = activity.store, activity.promotion
    bad = promotion.candidate
    if bad is None:
        raise SevenfoldError(f"promotion {promotion.id} names no candidate: whom to roll back?")
    row = _withdraw(activity)
    done = reconcile(store, promotion.model, open_gateway(hurry=True))
    activity.progress(f"{bad} is off, {row.champion or 'nobody'} serves (generation {row.generation})")
    if done.in_doubt:
        activity.progress(done.in_doubt)
    remove(activity, bad, row)
    activity.progress(f"held: {row.held}" if row.held else "no hold")


def _withdraw(activity: Activity) -> release.ReleaseRow:
    """Takes the promotion's candidate off, and holds further ones if its gate has proven it bad."""
    store, promotion = activity.store, activity.promotion
    analyses = store.analyses(promotion.id)
    verdict = analyses[-1].verdict if analyses else Verdict.ERROR
    reason = analyses[-1].reason if analyses else "a task failed before the gate could judge"
    if verdict is Verdict.SUCCESSFUL:
        verdict, reason = Verdict.ERROR, "its gate had passed it, but it could not take over"
    return release.withdraw(store, promotion.id, BY, str(verdict), reason)


def remove(activity: Activity, bad: str, row: release.ReleaseRow) -> None:
    """Stops the live replicas of `bad`, unless the row still names it."""
    if bad in (row.champion, row.candidate, row.previous):
        return
    cluster = open_cluster()
    for slot in LIVE:
        cluster.remove(activity.promotion.model, slot, bad)


if __name__ == "__main__":
    run(main, not_admitted="the run was not admitted and began nothing: there is nothing to take off")
