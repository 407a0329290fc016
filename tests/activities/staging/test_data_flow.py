"""The data flow on a real gateway: the same bytes at every hop; and whatever changes something is found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from tests.activities.live_stack import LiveWorld
from tests.activities.staging.real_gate import verdicts

from activities.staging import data_flow
from sevenfold.activity import Activity
from sevenfold.candidates.artefact import Scorer
from sevenfold.data.snapshot import snapshot
from sevenfold.model.spec import Privacy
from sevenfold.serving.pseudonyms import pseudonyms
from sevenfold.trials.trace import newest_day

METRICS = ("broken_hops", "feature_skew", "answer_skew")
GOOD = ["Successful"] * 3


@pytest.fixture
def activity(live: LiveWorld) -> Activity:
    candidate = live.proven(live.candidate(), until="staging")
    return live.handle("data_flow", live.begin(candidate, "staging"))


@pytest.fixture
def rows(activity: Activity, live: LiveWorld) -> pa.Table:
    window = newest_day(activity.promotion.as_of)
    return snapshot(activity.spec, live.settings.data).rows(*window, columns=activity.spec.columns)


@pytest.fixture
def logged(activity: Activity, rows: pa.Table) -> Iterator[pa.Table]:
    """What a faithful server logs of the rows, seven a request."""
    scorer = Scorer(activity.model_file(activity.candidate))
    request = [f"r{number // 7}" for number in range(rows.num_rows)]
    answers = np.concatenate([scorer.predict(rows.slice(at, 7)) for at in range(0, rows.num_rows, 7)])
    yield rows.append_column("request", pa.array(request)).append_column("prediction", pa.array(answers))


def test_the_same_bytes_at_every_hop(live: LiveWorld, activity: Activity) -> None:
    data_flow.main(activity)
    data_flow.main(activity)
    readings = live.store.measurements(activity.promotion.id)
    assert {m.metric: (m.value, m.n) for m in readings} == {
        "broken_hops": (0, 4),
        "feature_skew": (0, 60 * 3),
        "answer_skew": (0, 60),
    }
    assert verdicts(activity, METRICS) == GOOD
    report = live.store.reports(activity.promotion.id)[-1]
    page = live.artifacts.read(report.path).decode()
    assert page.count("the same") == 5 and "monitoring&#x27;s table" in page


def measured(activity: Activity, rows: pa.Table, logged: pa.Table) -> list[str]:
    hops = [data_flow.hop(name, activity.spec, of, None) for name, of in (("a", rows), ("b", logged))]
    data_flow.measure(activity, hops, rows, logged, None)
    return verdicts(activity, METRICS)


def test_a_faithful_log_passes(activity: Activity, rows: pa.Table, logged: pa.Table) -> None:
    assert measured(activity, rows, logged) == GOOD


def test_one_feature_in_its_last_bit_is_found(activity: Activity, rows: pa.Table, logged: pa.Table) -> None:
    noise = np.asarray(logged["noise"].to_numpy(), np.float32).copy()
    noise[3] = np.nextafter(noise[3], np.float32(9))
    changed = logged.set_column(logged.column_names.index("noise"), "noise", pa.array(noise))
    assert measured(activity, rows, changed) == ["Failed", "Failed", "Successful"]


def test_a_missing_value_that_became_a_number_is_found(
    activity: Activity, rows: pa.Table, logged: pa.Table
) -> None:
    pull = np.nan_to_num(np.asarray(logged["pull"].to_numpy(), np.float32))
    assert np.isnan(rows["pull"].to_numpy()).any()
    changed = logged.set_column(logged.column_names.index("pull"), "pull", pa.array(pull))
    assert measured(activity, rows, changed) == ["Failed", "Failed", "Successful"]


def test_one_answer_in_its_last_bit_is_found(activity: Activity, rows: pa.Table, logged: pa.Table) -> None:
    answers = logged["prediction"].to_numpy().copy()
    answers[7] = np.nextafter(answers[7], np.float32(1))
    place = logged.column_names.index("prediction")
    changed = logged.set_column(place, "prediction", pa.array(answers))
    assert measured(activity, rows, changed) == ["Successful", "Successful", "Failed"]


def test_a_row_that_is_lost_is_found(activity: Activity, rows: pa.Table, logged: pa.Table) -> None:
    assert measured(activity, rows, logged.slice(1))[:2] == ["Failed", "Failed"]


def test_hashes_of_personal_features_are_followed_as_values_are(
    live: LiveWorld, activity: Activity, rows: pa.Table, logged: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Privacy(personal=("noise", "place", "pull"), left_out=("pull",))
    monkeypatch.setitem(activity.__dict__, "spec", activity.spec.model_copy(update={"privacy": rule}))
    hidden = pseudonyms(activity.spec, live.settings.secrets)
    kept = data_flow.as_logged(logged, hidden)
    assert "pull" not in kept.column_names and kept["place"][0].as_py() != rows["place"][0].as_py()

    def measured(logged: pa.Table) -> list[str]:
        tables = (("a", data_flow.as_logged(rows, hidden)), ("b", logged))
        hops = [data_flow.hop(name, activity.spec, of, None) for name, of in tables]
        data_flow.measure(activity, hops, rows, logged, hidden)
        return verdicts(activity, METRICS)

    assert measured(kept) == GOOD
    changed = logged.set_column(
        logged.column_names.index("noise"), "noise", rows["noise"].take([1, *range(1, 60)])
    )
    assert measured(data_flow.as_logged(changed, hidden)) == ["Failed", "Failed", "Successful"]


def test_a_hop_names_what_is_not_the_same(activity: Activity, rows: pa.Table) -> None:
    labels = pa.table({"id": ["a", "b"], "label": [0.0, 1.0]})
    spec = activity.spec
    source = data_flow.hop("snapshot", spec, rows, labels)
    turned = labels.set_column(1, "label", pa.array([1.0, 0.0]))
    assert data_flow.hop("x", spec, rows.take(list(range(60))[::-1]), labels).broken(source) == []
    assert data_flow.hop("x", spec, rows.slice(1), turned).broken(source) == ["rows", "features", "outcomes"]
    assert data_flow.hop("x", spec, None, labels.slice(1)).broken(source) == ["labels", "outcomes"]
