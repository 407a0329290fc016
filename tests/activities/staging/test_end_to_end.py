"""End to end on a real gateway: nothing lost, nothing skewed; and what is lost or skewed is counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
from tests.activities.live_stack import LiveWorld

from activities.staging import end_to_end
from sevenfold.cluster import local_cluster
from sevenfold.snapshot import snapshot


def test_a_day_goes_through_whole_and_unskewed(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(), until="staging")
    activity = live.handle("end_to_end", live.begin(candidate, "staging"))
    end_to_end.main(activity)
    end_to_end.main(activity)  # a retry counts only what it sent itself
    readings = live.store.measurements(activity.promotion.id)
    lost = [m for m in readings if m.metric == "unmatched_rows"]
    assert [m.value for m in lost] == [0, 0]
    assert lost[0].n == 120
    assert lost[0].window_start == datetime(2013, 3, 14, tzinfo=UTC)
    assert all(m.value < 1e-6 and m.n == 60 for m in readings if m.metric == "skew")
    assert local_cluster().endpoints("coin", "staging", candidate.id), "it stays for the next activity"


def test_rows_that_got_lost_doubled_or_changed_are_seen(live: LiveWorld) -> None:
    candidate = live.proven(live.candidate(), until="staging")
    activity = live.handle("end_to_end", live.begin(candidate, "staging"))
    data, window = (
        snapshot(activity.spec, live.settings.data),
        end_to_end.newest_day(activity.promotion.as_of),
    )
    rows, labels = data.rows(*window, columns=activity.spec.columns), data.labels(*window)
    ids = rows["id"].to_pylist()
    logged = pa.table({"id": [*ids[2:], ids[5], "stray"], "prediction": pa.array([0.5] * 60, pa.float32())})
    found = end_to_end.unmatched(activity, rows, labels.slice(0, 0), logged)
    assert found == {
        "asked and not logged": 2,
        "logged and not asked": 1,
        "logged twice": 1,
        "labels that did not come back": 0,
    }
    assert end_to_end.skew(activity, data, window, logged) > 0.1
    strangers = labels.slice(0, 3).set_column(0, "id", pa.array(["x", "y", "z"]))
    assert end_to_end.unmatched(activity, rows, strangers, logged)["labels that did not come back"] == 3
