"""feedback: joins what was predicted with what became of it, matured days only; too old logs go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sevenfold.activity import Activity, run
from sevenfold.data.weeks import within
from sevenfold.monitoring import joined
from sevenfold.monitoring.watch import Watch
from sevenfold.security.privacy import expire


def main(activity: Activity) -> None:
    """Joins the days that have matured, and measures how many labels came back in the champion's weeks."""
    watch = Watch(activity)
    model = activity.promotion.model
    done = joined.update(watch.folder, activity.settings.logs, model, watch.as_of, watch.rule.maturity)
    activity.progress(
        f"joined {len(done.days)} days before {watch.end:%Y-%m-%d}: {done.rows:,} predictions, "
        f"{done.labelled:,} with their label; {done.waiting} days are not matured yet"
    )
    expire_all(activity, watch.folder)
    if watch.champion is None:
        activity.progress(f"{model} has no champion: there is nobody to measure")
        return
    rows = watch.champion_rows(["id"])
    for week in watch.weeks:
        inside = within(rows, week)
        count, missing = inside.num_rows, inside["label"].null_count
        if not count:
            activity.progress(f"{week}: {watch.champion.id} answered nothing")
            continue
        activity.measure(
            "label_coverage",
            1 - missing / count,
            unit="share",
            n=count,
            window=(week.start, week.end),
            interval=week.key,
            counts={"bad": missing, "n": count},
        )


def expire_all(activity: Activity, folder: Path) -> None:
    """Deletes what is older than the model's retention: logs, and what was joined from them."""
    days = activity.spec.privacy.retention_days
    for path in expire(activity.spec, activity.settings.logs):
        activity.progress(f"deleted {path.name}: older than {days} days")
    if gone := joined.expire(folder, datetime.now(UTC) - timedelta(days=days)):
        activity.progress(f"deleted {gone:,} joined predictions: older than {days} days")


if __name__ == "__main__":
    run(main)
