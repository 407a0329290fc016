"""End to end on a real gateway: nothing lost, monitoring says what is expected; and each fault is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.staging.real_gate import verdicts

from activities.staging import end_to_end
from sevenfold.activity import Activity
from sevenfold.cluster import open_cluster
from sevenfold.trials.trace import Trace

METRICS = ("unmatched_rows", "monitoring_difference")


@pytest.fixture
def activity(live: LiveWorld) -> Activity:
    candidate = live.proven(live.candidate(), until="staging")
    return live.handle("end_to_end", live.begin(candidate, "staging"))


def test_a_day_goes_through_whole_and_monitoring_says_what_is_expected(
    live: LiveWorld, activity: Activity
) -> None:
    end_to_end.main(activity)
    end_to_end.main(activity)  # a retry counts only what it sent itself
    readings = live.store.measurements(activity.promotion.id)
    lost = [m for m in readings if m.metric == "unmatched_rows"]
    assert [m.value for m in lost] == [0, 0]
    assert lost[0].n == 120
    assert lost[0].window_start == datetime(2013, 3, 14, tzinfo=UTC)
    assert all(m.value < 1e-6 and m.n == 60 for m in readings if m.metric == "monitoring_difference")
    assert verdicts(activity, METRICS) == ["Successful", "Successful"]
    assert open_cluster().endpoints("coin", "staging", activity.candidate.id), "the next activity uses it"
    report = live.store.reports(activity.promotion.id)[-1]
    page = live.artifacts.read(report.path).decode()
    assert "14 March 2013" in page and "log loss" in page and "AUC" in page


Broken = Callable[[pytest.MonkeyPatch], None]


def half_is_never_asked(patch: pytest.MonkeyPatch) -> None:
    ask = end_to_end.ask
    patch.setattr(end_to_end, "ask", lambda target, spec, rows: ask(target, spec, rows.slice(30)))


def labels_are_lost(patch: pytest.MonkeyPatch) -> None:
    bring = end_to_end.bring_labels
    patch.setattr(end_to_end, "bring_labels", lambda target, labels: bring(target, labels.slice(20)))


def labels_are_joined_to_their_neighbours(patch: pytest.MonkeyPatch) -> None:
    joined = Trace.joined

    def shifted(self: Trace, *when: object) -> pa.Table:
        table = joined(self, *when)
        label = np.roll(table["label"].to_numpy(), 1)
        return table.set_column(table.column_names.index("label"), "label", pa.array(label))

    patch.setattr(Trace, "joined", shifted)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        (half_is_never_asked, ["Failed", "Failed"]),
        (labels_are_lost, ["Failed", "Failed"]),
        (labels_are_joined_to_their_neighbours, ["Successful", "Failed"]),
    ],
)
def test_what_is_lost_or_wrong_on_the_way_is_found(
    activity: Activity, monkeypatch: pytest.MonkeyPatch, breaks: Broken, expected: list[str]
) -> None:
    breaks(monkeypatch)
    end_to_end.main(activity)
    assert verdicts(activity, METRICS) == expected


def test_rows_that_got_lost_or_doubled_are_counted_by_what_happened() -> None:
    ids = [f"c{number}" for number in range(60)]
    rows = pa.table({"id": ids})
    logged = pa.table({"id": [*ids[2:], ids[5], "stray"]})
    assert end_to_end.unmatched(rows, rows.slice(0, 5), logged, rows.slice(3)) == {
        "asked and not logged": 2,
        "logged and not asked": 1,
        "logged twice": 1,
        "labels that did not come back": 3,
    }


def test_a_number_that_is_lacking_is_as_wrong_as_can_be() -> None:
    nan = float("nan")
    expected = {"log_loss": 0.5, "auc": nan, "rows": 100}
    assert end_to_end.difference(expected, expected) == 0
    assert end_to_end.difference({"log_loss": 0.5, "auc": nan}, expected) == 1
    assert end_to_end.difference({**expected, "auc": 0.7}, expected) == 1
    assert end_to_end.difference({**expected, "log_loss": 0.6}, expected) == pytest.approx(0.1)
    assert end_to_end.difference({**expected, "rows": 99}, expected) == pytest.approx(0.01)


def test_a_trace_takes_only_what_was_added_and_only_of_its_arm(tmp_path: Path) -> None:
    from tests.activities.monitoring.traffic import serve
    from tests.activities.small_world import World, build

    rows, _ = build(lambda line: None)
    world = World(tmp_path)
    logs, activity = tmp_path / "logs", world.activity("end_to_end", "staging", world.candidate())
    rows, spec = rows.slice(0, 30), activity.spec
    likely = np.full(30, 0.5)
    serve(logs, spec, "c-1", rows.slice(0, 10), likely, arm="staging", request="before")
    trace = Trace.begin(tmp_path / "trace", logs, spec.name, "c-1", "staging")
    serve(logs, spec, "c-1", rows.slice(10, 10), likely, arm="staging", request="mine")
    serve(logs, spec, "c-1", rows.slice(20, 10), likely, arm="champion", request="other")
    trace.collect()
    day = rows["time"][0].as_py().replace(hour=0, minute=0)
    found = trace.logged((day, day.replace(day=day.day + 1)))
    assert found["id"].to_pylist() == rows["id"].slice(10, 10).to_pylist()
    assert pc.unique(found["arm"]).to_pylist() == ["staging"]
