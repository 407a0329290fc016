"""ab_analysis: challenger against champion on live traffic, on matured rows only."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.compute as pc

from sevenfold.activity import Activity, run
from sevenfold.candidates.candidate import Candidate
from sevenfold.gates.measurement import Measurement
from sevenfold.measures import arms
from sevenfold.measures.arms import Comparison
from sevenfold.monitoring.watch import CHALLENGER, CHAMPION, SHADOW, Watch
from sevenfold.release import release
from sevenfold.reports import plots

COLUMNS = ("request", "row", "prediction")


def main(activity: Activity) -> None:
    """Compares the two arms while a challenger has a share or a mirror of the traffic."""
    row = release.row(activity.store, activity.promotion.model)
    if row.candidate is None or not (row.share or row.mirror):
        activity.progress(f"no challenger: nobody is tried against {row.champion or 'a champion'} now")
        return
    if row.champion is None:
        activity.progress(f"{row.candidate} gets traffic but there is no champion to compare it with")
        return
    watch = Watch(activity)
    challenger, task = activity.store.candidate(row.candidate), activity.spec.task
    rows = watch.rows(COLUMNS, arms=(CHAMPION, CHALLENGER, SHADOW))
    of_champion = rows.filter(
        pc.and_(pc.equal(rows["arm"], CHAMPION), pc.equal(rows["candidate"], row.champion))
    )
    mine = rows.filter(pc.equal(rows["candidate"], challenger.id))
    found = {
        "mirrored": arms.mirrored(task, of_champion, mine.filter(pc.equal(mine["arm"], SHADOW))),
        "split": arms.split(task, of_champion, mine.filter(pc.equal(mine["arm"], CHALLENGER))),
    }
    compared = {name: comparison for name, comparison in found.items() if comparison is not None}
    if not compared:
        activity.progress(
            f"{challenger.id} has answered nothing yet whose label is known before {watch.end:%Y-%m-%d}"
        )
        return
    for name, comparison in compared.items():
        leave(activity, challenger, row.champion, name, comparison)
    draw(activity, challenger, compared)


def leave(activity: Activity, challenger: Candidate, champion: str, how: str, found: Comparison) -> None:
    """Measures the challenger against the champion; the readings are the challenger's."""
    loss, gap = found.challenger.log_loss, found.difference
    ratios = [f"{arm.over_expected.value:.2f}" for arm in (found.challenger, found.champion)]
    activity.store.record(
        [
            Measurement(
                promotion=activity.promotion.id,
                candidate=challenger.id,
                activity=activity.name,
                metric="log_loss",
                value=loss.value,
                unit="nats",
                n=loss.n,
                baseline="champion",
                baseline_candidate=champion,
                baseline_value=found.champion.log_loss.value,
                slice=how,
                source=f"monitoring.{activity.name}",
                digest=challenger.model_digest,
                counts=gap.difference_counts,
                **loss.limits,
            )
        ]
    )
    sure = f" (95 % over days {gap.low:+.4f} to {gap.high:+.4f})" if gap.difference_counts else ""
    activity.progress(
        f"{how}, {loss.n:,} rows on {loss.clusters} days: log loss {loss.value:.4f} of {challenger.id} "
        f"against {found.champion.log_loss.value:.4f}, difference {gap.value:+.4f}{sure}; "
        f"observed over expected {' against '.join(ratios)}"
    )


def draw(activity: Activity, challenger: Candidate, compared: dict[str, Comparison]) -> None:
    """Draws both arms' log loss."""
    bars = []
    for how, found in compared.items():
        for name, arm in (("champion", found.champion), ("challenger", found.challenger)):
            bars.append((f"{name}, {how}", arm.log_loss.value, arm.log_loss.low, arm.log_loss.high))
    with tempfile.TemporaryDirectory() as folder:
        path = plots.intervals(
            Path(folder) / "arms.png",
            bars,
            f"{activity.spec.title}: {challenger.id} against the champion",
            "log loss, nats a row",
        )
        activity.report(path.name, path, "Challenger against champion on live traffic")


if __name__ == "__main__":
    run(main)
