"""Makes the candidate champion: the release row, then the router, then what nobody needs any more is removed.

Promotion is refused without evidence and approval by the release row itself. The champion before stays
deployed without traffic, so that a roll-back takes no start; whoever served before that one is removed.
"""

from __future__ import annotations

from sevenfold.activity import Activity, run
from sevenfold.cluster import open_cluster
from sevenfold.gateway import open_gateway
from sevenfold.release import release
from sevenfold.release.going_back import tidy
from sevenfold.release.reconcile import reconcile
from sevenfold.trials.trial import require_gateway


def main(activity: Activity) -> None:
    """Promotes, and brings router and replicas in line. Safe to repeat after any kill."""
    require_gateway(activity)
    store, model = activity.store, activity.promotion.model
    row = release.promote(store, activity.promotion.id, by="take_over")
    reconcile(store, model, open_gateway())
    before = row.previous or "nobody"
    activity.progress(f"{row.champion} is champion (generation {row.generation}); before: {before}")
    tidy(open_cluster(), model, row, activity.spec.serving.replicas, activity.progress)


if __name__ == "__main__":
    run(main)
