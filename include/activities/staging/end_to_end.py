"""A day of real rows through the real gateway: asked, logged, labelled, and answered as it was validated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.activity import Activity, run
from sevenfold.artefact import Scorer
from sevenfold.asking import ask, bring_labels
from sevenfold.predictions import values
from sevenfold.serving import log
from sevenfold.snapshot import Snapshot, snapshot
from sevenfold.trial import on_trial

Window = tuple[datetime, datetime]


def main(activity: Activity) -> None:
    """Counts the rows that got lost on the way, and the largest difference of a served answer."""
    data, window = snapshot(activity.spec, activity.settings.data), newest_day(activity.promotion.as_of)
    rows = data.rows(*window, columns=activity.spec.columns)
    labels = data.labels(*window)
    began = datetime.now(UTC)
    with on_trial(activity, "staging", keep=True) as target:
        asked = ask(target, activity.spec, rows)
        activity.progress(f"{window[0]:%Y-%m-%d}: {asked}")
        taken = bring_labels(target, labels)
        activity.progress(f"{taken:,} of {labels.num_rows:,} labels taken")
    logged = read_log(activity, window, began)
    lost = unmatched(activity, rows, labels, logged)
    activity.measure(
        "unmatched_rows", sum(lost.values()), unit="rows", n=rows.num_rows + labels.num_rows, window=window
    )
    activity.measure(
        "skew",
        skew(activity, data, window, logged),
        unit=activity.spec.task.unit,
        n=logged.num_rows,
        window=window,
    )
    activity.progress(", ".join(f"{what}: {count}" for what, count in lost.items()))


def newest_day(as_of: datetime) -> Window:
    """The last whole day (UTC) before `as_of`."""
    end = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return end - timedelta(days=1), end


def read_log(activity: Activity, window: Window, began: datetime) -> pa.Table:
    """What the candidate answered in staging since this try began."""
    found = log.predictions(activity.settings.logs, activity.promotion.model, activity.candidate.id, *window)
    mine = pc.and_(pc.equal(found["arm"], "staging"), pc.greater_equal(found["wall"], _millisecond(began)))
    return found.filter(mine)


def unmatched(activity: Activity, rows: pa.Table, labels: pa.Table, logged: pa.Table) -> dict[str, int]:
    """Rows that got lost or doubled at each hop, by what happened to them."""
    known = log.feedback(activity.settings.logs, activity.promotion.model)
    asked, answered, labelled = (set(table["id"].to_pylist()) for table in (rows, logged, labels))
    return {
        "asked and not logged": len(asked - answered),
        "logged and not asked": len(answered - asked),
        "logged twice": logged.num_rows - len(answered),
        "labels that did not come back": len(labelled - set(known["id"].to_pylist())),
    }


def skew(activity: Activity, data: Snapshot, window: Window, logged: pa.Table) -> float | None:
    """Largest absolute difference between the served and the offline answer to the same row."""
    if not logged.num_rows:
        return None
    rows = data.rows(*window, columns=activity.spec.columns)
    offline: Any = Scorer(activity.model_file(activity.candidate)).predict(rows)
    place = pc.index_in(logged["id"], value_set=rows["id"].combine_chunks())
    served = values(logged["prediction"])[pc.is_valid(place).to_numpy(zero_copy_only=False)]
    expected = offline[place.drop_null().to_numpy()]
    return float(np.abs(served - expected).max(initial=0.0))


def _millisecond(moment: datetime) -> pa.Scalar:
    """The log knows no finer time."""
    floor = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return pa.scalar(floor, pa.timestamp("us", tz="UTC"))


if __name__ == "__main__":
    run(main)
