"""The candidate sees a copy of every live request, and its answers are compared with what callers got.

Without callers the newest days are replayed through the public route. Without a champion there are no callers
and nothing to compare: the candidate alone is asked, and the activity says so. The mirror is taken off and
the deployment removed in any case.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sevenfold import clock
from sevenfold.activity import Activity, run
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import Snapshot, snapshot
from sevenfold.data.windows import Window
from sevenfold.gateway import open_gateway
from sevenfold.measures.shadow import Losses, Pairs, losses, pair
from sevenfold.monitoring.alarm import load_rule
from sevenfold.monitoring.answers import AccessLog
from sevenfold.release import release
from sevenfold.release.reconcile import reconcile
from sevenfold.reports import plots
from sevenfold.serving import log
from sevenfold.trials.asking import ask, bring_labels
from sevenfold.trials.trial import Target, claim_slot, on_trial, public

DAYS = 10
"""Days with final labels that the comparison of losses should have."""
REQUESTS = 700
"""Fewer cannot prove that 99 of 100 are answered. Where a day has few, more days are replayed."""
DAY = timedelta(days=1)
ALONE_DAYS = 2
LIMIT_S = 120.0
PATIENCE_S = 5.0
POLL_S = 1.0
SETTLED = timedelta(seconds=0.2)
"""Requests so soon after the change may not have been mirrored yet."""
QUIET_S, SETTLE_S = 1.0, 10.0
BY = "shadow"


def main(activity: Activity) -> None:
    """Mirrors, waits for enough, compares."""
    if activity.champion is None:
        with on_trial(activity, "shadow") as target:
            alone(activity, target)
        return
    with on_trial(activity, "shadow"), mirrored(activity):
        began = datetime.now(UTC)
        earliest = watch(activity)
        ended = datetime.now(UTC)
        settle(activity.settings.logs / "predictions" / activity.promotion.model / activity.candidate.id)
    # the shadow has drained: the last copy of what was answered until `ended` is in its log
    compare(activity, activity.champion, (began, ended), earliest)


def alone(activity: Activity, target: Target) -> None:
    """No champion: the candidate answers the newest days, unheard; only errors can be measured."""
    activity.progress("no champion: nothing compared; the candidate alone is asked")
    data = snapshot(activity.spec, activity.settings.data)
    window, rows = newest(activity, data, activity.promotion.as_of, ALONE_DAYS)
    asked = ask(target, activity.spec, rows)
    activity.progress(str(asked))
    counts = {"bad": float(asked.failed), "n": float(asked.requests)}
    rate = asked.failed / max(asked.requests, 1)
    activity.measure("errors", rate, unit="share", n=asked.requests, window=window, counts=counts)


@contextmanager
def mirrored(activity: Activity) -> Iterator[None]:
    """The candidate sees all requests; nothing of it is left afterwards."""
    store, promotion = activity.store, activity.promotion
    claim_slot(activity, BY)
    try:
        row = release.set_mirror(store, promotion.id, 1.0, by=BY)
        reconcile(store, promotion.model, open_gateway())
        activity.progress(f"mirror of all requests to {row.candidate} (generation {row.generation})")
        time.sleep(SETTLED.total_seconds())
        yield
    finally:
        release.vacate(store, promotion.id, by=BY, reason="the shadow has seen enough")
        reconcile(store, promotion.model, open_gateway())
        activity.progress("mirror off")


def watch(activity: Activity) -> datetime:
    """Waits until the live requests are enough or the time is up; replays the newest days if none come.

    Returns the time of the event before which nothing was asked.
    """
    access = AccessLog(activity.settings.logs, activity.promotion.model, marks=open_gateway().marks)
    wanted = activity.promotion.params.get("traffic")
    requests, silent_since, counted = 0, time.monotonic(), datetime.now(UTC)
    first_event = clock.now(activity.store, activity.promotion.model)
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        patience = 0.0 if wanted == "replay" else PATIENCE_S
        if not requests and wanted != "live" and time.monotonic() - silent_since >= patience:
            return replay(activity)
        until = counted + timedelta(seconds=POLL_S)
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        requests += sum(one.purpose == "live" for one in access.between(counted, until))
        counted = until
        reached = clock.now(activity.store, activity.promotion.model)
        final = reached - load_rule(activity.spec.folder).maturity
        activity.progress(f"{requests:,} requests seen, the data have reached {reached:%Y-%m-%d %H:%M}")
        if requests >= REQUESTS and final - first_event >= timedelta(days=DAYS):
            return first_event - DAY
    activity.progress(f"the time is up after {LIMIT_S:.0f} s: what was seen is compared")
    return first_event - DAY


def settle(answers: Path) -> None:
    """Waits until the shadow has answered the copies that the gateway still holds, which go with the mirror.

    That is when its log has not grown for `QUIET_S`; where callers go on asking it never is, and after
    `SETTLE_S` whatever was copied until now has been answered.
    """
    limit = time.monotonic() + SETTLE_S
    before, size = -1, _size(answers)
    while size != before and time.monotonic() < limit:
        time.sleep(QUIET_S)
        before, size = size, _size(answers)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.jsonl"))


def replay(activity: Activity) -> datetime:
    """Nobody calls: the newest days whose labels are final go through the public route once more."""
    reached = min(activity.promotion.as_of, clock.now(activity.store, activity.promotion.model))
    end = reached - load_rule(activity.spec.folder).maturity
    data, target = snapshot(activity.spec, activity.settings.data), public(activity)
    window, rows = newest(activity, data, end, DAYS)
    with activity.phase(f"nobody calls: replaying {window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}"):
        asked = ask(target, activity.spec, rows)
        activity.progress(str(asked))
        bring_labels(target, data.labels(*window, known_by=reached))
    return window[0]


def newest(activity: Activity, data: Snapshot, end: datetime, days: int) -> tuple[Window, pa.Table]:
    """The newest `days` days before `end` and their rows; more days where those make too few requests."""
    spec = activity.spec
    while True:
        start = max(end - timedelta(days=days), spec.data.start)
        rows = data.rows(start, end, columns=spec.columns)
        requests = len(
            pc.unique(pc.floor_temporal(rows["time"], unit="minute"))
        )  # as `ask` puts them together
        if requests >= REQUESTS or start == spec.data.start:
            return (start, end), rows
        days *= 2


def compare(
    activity: Activity, champion: Candidate, wall: tuple[datetime, datetime], earliest: datetime
) -> None:
    """Measures disagreement, errors, times and later loss on the requests that both answered."""
    shadow = answered(activity, activity.candidate, "shadow", earliest, wall[0] - SETTLED)
    pairs = pair(activity.spec.task, answered(activity, champion, "champion", earliest, *wall), shadow)
    if not pairs.requests:
        activity.progress("no request was mirrored: nothing to compare")
        return
    sla_ms = activity.spec.serving.sla.p99_ms
    slow, champion_slow = pairs.slower_than(sla_ms)
    rate(activity, champion, "disagreement", pairs.disagreements, pairs.rows)
    rate(activity, champion, "errors", pairs.lost, pairs.requests)
    unit = activity.spec.task.unit
    measure(activity, champion, "prediction_difference", pairs.difference.value, unit, pairs.rows)
    rate(activity, champion, "slow", slow, pairs.requests - pairs.lost)
    activity.progress(
        f"{pairs.rows:,} rows in {pairs.requests:,} requests, {pairs.lost} copies lost; "
        f"{pairs.disagreements:,} decided differently; over {sla_ms:g} ms: {slow}, champion {champion_slow}"
    )
    later_loss(activity, champion, pairs)


def answered(
    activity: Activity,
    candidate: Candidate,
    arm: str,
    earliest: datetime,
    start: datetime,
    end: datetime | None = None,
) -> pa.Table:
    """What a candidate answered on an arm with start <= wall time < end, about events from `earliest` on."""
    found = log.predictions(activity.settings.logs, activity.promotion.model, candidate.id, earliest)
    kind = pa.timestamp("us", tz="UTC")
    chosen = pc.and_(pc.equal(found["arm"], arm), pc.greater_equal(found["wall"], pa.scalar(start, kind)))
    if end is not None:
        chosen = pc.and_(chosen, pc.less(found["wall"], pa.scalar(end, kind)))
    return found.filter(chosen)


def later_loss(activity: Activity, champion: Candidate, pairs: Pairs) -> None:
    """Log loss of both on the rows whose labels are final, and the paired difference by day."""
    model = activity.promotion.model
    final = clock.now(activity.store, model) - load_rule(activity.spec.folder).maturity
    found = losses(pairs.before(final), log.feedback(activity.settings.logs, model))
    if found is None:
        activity.progress("no label of a mirrored row is final yet: the loss cannot be compared")
        return
    difference = found.difference
    activity.measure(
        "loss_difference",
        found.shadow.value,
        unit="nats",
        n=difference.n,
        baseline="champion",
        baseline_candidate=champion.id,
        baseline_value=found.champion.value,
        counts=difference.difference_counts,
    )
    ours, theirs = found.shadow_calibration, found.champion_calibration
    activity.measure(
        "calibration",
        ours.value,
        unit="observed over expected",
        n=ours.n,
        low=ours.limits["low"],
        high=ours.limits["high"],
        baseline="champion",
        baseline_candidate=champion.id,
        baseline_value=theirs.value,
    )
    activity.progress(f"observed over expected: {ours.value:.2f}, champion {theirs.value:.2f}")
    _plot(activity, found)


def rate(activity: Activity, champion: Candidate, metric: str, bad: int, n: int) -> None:
    """A share of rows or requests."""
    counts = {"bad": float(bad), "n": float(n)}
    measure(activity, champion, metric, bad / n if n else None, "share", n, counts)


def measure(
    activity: Activity,
    champion: Candidate,
    metric: str,
    value: float | None,
    unit: str,
    n: int,
    counts: dict[str, float] | None = None,
) -> None:
    """A reading beside the champion."""
    activity.measure(
        metric, value, unit=unit, n=n, baseline="champion", baseline_candidate=champion.id, counts=counts
    )


def _plot(activity: Activity, found: Losses) -> None:
    import tempfile
    from pathlib import Path

    on = f"on the same {found.difference.n:,} rows, 95 % by day"
    pictures = {
        "losses": ("Later loss", "nats", found.champion, found.shadow),
        "calibration": (
            "Observed over expected",
            "1 is right",
            found.champion_calibration,
            found.shadow_calibration,
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (title, unit, champion, shadow) in pictures.items():
            rows = [
                (who, one.value, one.limits["low"], one.limits["high"])
                for who, one in (("champion", champion), ("shadow", shadow))
            ]
            path = plots.intervals(Path(folder) / f"{name}.png", rows, f"{title} {on}", unit)
            activity.report(path.name, path.read_bytes(), f"{title} of champion and shadow")


if __name__ == "__main__":
    run(main)
