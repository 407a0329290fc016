"""Takes a candidate off live traffic, at once: the release row first, the router next, its replicas last.

After a failed gate it withdraws the promotion's candidate. A person who names a serving champion goes back
from it to the one before. Either way nothing more is promoted until a person releases the hold. Done twice it
changes nothing.
"""

from __future__ import annotations

from sevenfold import release
from sevenfold.activity import Activity, run
from sevenfold.cluster import Deployment, local_cluster
from sevenfold.errors import SevenfoldError
from sevenfold.gateway import local_gateway
from sevenfold.reconcile import reconcile
from sevenfold.serving.admission import LIVE

BY = "roll_back"


def main(activity: Activity) -> None:
    """Rolls back the candidate of the promotion, or the champion that its params name."""
    store, promotion = activity.store, activity.promotion
    bad = promotion.params.get("champion") or promotion.candidate
    if not bad:
        raise SevenfoldError(
            f"promotion {promotion.id} names no candidate and no champion: whom to roll back?"
        )
    reason = promotion.reason if promotion.params.get("champion") else _verdict(activity)
    row = release.row(store, promotion.model)
    if row.champion == bad:
        _keep_ready(activity, row.previous)
        row = release.roll_back(store, promotion.model, bad, BY, reason)
    elif row.candidate == bad and row.promotion:
        row = release.withdraw(store, row.promotion, BY, "refused", "Failed", reason)
        row = release.hold(store, promotion.model, BY, reason)
    reconcile(store, promotion.model, local_gateway())
    activity.progress(f"{bad} is off, {row.champion or 'nobody'} serves (generation {row.generation})")
    remove(activity, bad, row)
    activity.progress(f"held: {row.held}" if row.held else "no hold")


def remove(activity: Activity, bad: str, row: release.ReleaseRow) -> None:
    """Stops the live replicas of `bad`, unless the row still names it."""
    if bad in (row.champion, row.candidate, row.previous):
        return
    cluster = local_cluster()
    for slot in LIVE:
        cluster.remove(activity.promotion.model, slot, bad)


def _keep_ready(activity: Activity, previous: str | None) -> None:
    """Whoever traffic goes back to has to be there before it comes; normally it is, without traffic."""
    model = activity.promotion.model
    cluster = local_cluster()
    if previous and not any(cluster.endpoints(model, slot, previous) for slot in LIVE):
        replicas = activity.spec.serving.replicas
        with activity.phase(f"starting {previous} again"):
            cluster.deploy(Deployment(model, previous, "champion", replicas))


def _verdict(activity: Activity) -> str:
    """Why: the gate's own words if it has spoken."""
    analyses = activity.store.analyses(activity.promotion.id)
    return analyses[-1].reason if analyses else f"a task of {activity.promotion.id} failed before its gate"


if __name__ == "__main__":
    run(main)
