"""Going back: a person undoes the newest change of what callers meet, and may do it from anywhere.

A candidate that answers callers comes off, and the champion serves everything. When there is none, the newest
change is the champion itself: all traffic goes back to the one before.

The command line, the roll-back DAG and its retries all end here. The release row is changed first of all that
callers notice, the router follows; what is slow (more replicas, the end of the bad ones) comes after.

On hold the newest change has been undone already, by somebody else or by the first of two clicks: going back
further is another decision, and has to be said.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, select

from sevenfold.cluster import Cluster, Deployed, Deployment
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import release_history
from sevenfold.gateway import open_gateway
from sevenfold.release import release
from sevenfold.release.reconcile import reconcile
from sevenfold.release.release_row import NothingBefore, ReleaseRow
from sevenfold.serving.admission import LIVE


class AlreadyBack(SevenfoldError):
    """The newest change has been undone; nobody said that the one before it is to be undone as well."""


Say = Callable[[str], None]


def go_back(
    store: Store,
    cluster: Cluster,
    model: str,
    *,
    by: str,
    reason: str,
    once: bool = False,
    again: bool = False,
    say: Say = lambda line: None,
) -> ReleaseRow:
    """Undoes the newest change, and returns when callers meet what was before; holds further promotion.

    Args:
        by: who does it.
        once: `by` names one order, not a person: given again, after a kill, it rolls back no further.
        again: go back to the champion before also when promotion is on hold.
        say: gets a line of progress.

    Raises:
        AlreadyBack: promotion is on hold and no candidate answers callers: the newest change is undone.
        NothingBefore: there is no one to go back to.
        DeploymentFailed: whom to go back to cannot be started; the champion serves on.
        EvidenceLacking: the evidence of the one before was revoked or altered.
    """
    row = release.row(store, model)
    # in this order: what has been done since the row was read, naming the champion makes harmless
    if not (once and _done(store, model, by)):
        tried = row.candidate if row.champion and row.share else None
        if tried:
            row = release.call_off(store, model, by=by, reason=reason)
        elif row.held is not None and row.previous is not None and not again:
            reconcile(store, model, open_gateway(hurry=True))
            raise AlreadyBack(
                f"{row.champion} serves everything, no candidate follows since "
                f"{_held_since(store, model):%Y-%m-%d %H:%M} UTC ({row.held}): nothing was changed. "
                f"To go back to {row.previous} as well, say again (AGAIN=yes with make, a tick in the form)."
            )
        if not tried or row.champion == tried:  # it may have become champion in this very moment
            _take_back(store, cluster, row, by, reason, say)
    done = reconcile(store, model, open_gateway(hurry=True))
    row = release.row(store, model)
    say(f"{row.champion} serves everything (generation {row.generation}); no candidate follows: {row.held}")
    if done.in_doubt:
        say(done.in_doubt)
    return row


def _take_back(store: Store, cluster: Cluster, row: ReleaseRow, by: str, reason: str, say: Say) -> None:
    if row.champion is None or row.previous is None:
        raise NothingBefore(f"{row.model} is served by {row.champion or 'nobody'}, and nobody was before.")
    _start_if_gone(cluster, row.model, row.previous, say)
    release.roll_back(store, row.model, by=by, reason=reason, champion=row.champion)


def tidy(cluster: Cluster, model: str, row: ReleaseRow, replicas: int, say: Say = lambda line: None) -> None:
    """Brings the champion to its number of replicas, and removes live ones that the row does not name."""
    needed = {row.champion, row.previous, row.candidate}
    if not cluster.running():
        return
    for deployed in _live(cluster, model):
        if deployed.candidate == row.champion and deployed.endpoints:
            number = max(replicas, len(deployed.endpoints))
            cluster.deploy(Deployment(model, deployed.candidate, deployed.slot, number))
        elif deployed.candidate not in needed:
            cluster.remove(model, deployed.slot, deployed.candidate)
            say(f"removed {deployed.candidate}")


def _start_if_gone(cluster: Cluster, model: str, candidate: str, say: Say) -> None:
    """Normally the champion before is there, without traffic: one look is all. Else one replica is enough."""
    there = [one for one in _live(cluster, model) if one.candidate == candidate and one.endpoints]
    if not cluster.running() or any(cluster.ready(one) for one in there):
        return
    slot, number = (there[0].slot, len(there[0].endpoints)) if there else ("champion", 1)
    say(f"starting {candidate} again")
    cluster.deploy(Deployment(model, candidate, slot, number))


def _live(cluster: Cluster, model: str) -> list[Deployed]:
    return [deployed for slot in LIVE for deployed in cluster.deployments(model, slot)]


def _held_since(store: Store, model: str) -> datetime:
    """When promotion was put on hold."""
    mine = release_history.c.model == model
    free = select(func.max(release_history.c.generation)).where(mine, release_history.c.held.is_(None))
    with store.reading() as connection:
        last = connection.scalar(free) or 0
        held = select(func.min(release_history.c.at)).where(mine, release_history.c.generation > last)
        since: datetime = connection.execute(held).scalar_one()
    return since


def _done(store: Store, model: str, by: str) -> bool:
    """Whether this order has changed the row before."""
    history = release_history
    mine = select(history.c.generation).where(history.c.model == model, history.c.who == by)
    with store.reading() as connection:
        return connection.execute(mine.limit(1)).first() is not None
