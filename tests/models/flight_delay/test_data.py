"""The flights' features are what they say, and know nothing of the future."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.flights import flights

from models.flight_delay import data, features
from models.flight_delay.features import NEVER
from sevenfold.model.spec import load_spec

SPEC = load_spec("flight_delay")
CUT = datetime(2013, 1, 8, 17, 0, tzinfo=UTC)


@lru_cache(maxsize=1)
def january() -> dict[str, pa.Table]:
    """The package's tables with the flights of 1 to 10 January."""
    tables = data.read()
    flown = tables["flights"]
    first_days = pc.and_(pc.equal(flown["month"], 1), pc.less_equal(flown["day"], 10))
    return tables | {"flights": flown.filter(first_days)}


def test_the_year_is_complete_and_its_labels_come_after_their_rows() -> None:
    manifest = flights().manifest
    assert len(manifest["days"]) == 365
    assert sum(day["rows"]["rows"] for day in manifest["days"].values()) == 336_776
    assert sum(day["labels"]["rows"] for day in manifest["days"].values()) == 327_346
    march = flights().labelled(datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 4, 1, tzinfo=UTC))
    lag = pc.subtract(march["known_at"], march["time"]).cast(pa.int64()).to_numpy() / 3.6e9
    assert lag.min() > 0
    assert lag.max() < 33
    assert 2.5 < np.median(lag) < 3.2
    assert pc.mean(march["label"]).as_py() == pytest.approx(0.2, abs=0.06)


def test_ids_are_unique_and_readable() -> None:
    rows = flights().rows(datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 8, 1, tzinfo=UTC), ["distance"])
    ids = rows["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert "20130727-EWR-US1632" in ids
    distances = dict(zip(ids, rows["distance"].to_pylist(), strict=True))
    assert distances["20130727-EWR-US1632"] == 17, "the one odd row of the year is kept, not repaired"


def test_no_feature_knows_what_happens_after_departure() -> None:
    """All outcomes after a moment are made unknown: not one feature before that moment may change."""
    tables = january()
    rows, _ = data.assemble(tables)
    known = tables["flights"]
    happened = _outcome_times(known)
    blanked = {
        name: pc.if_else(pa.array(happened[name] > _minutes(CUT)), None, known[name])
        for name in ("dep_delay", "arr_delay")
    }
    for name, column in blanked.items():
        known = known.set_column(known.column_names.index(name), name, column)
    without_future, _ = data.assemble(tables | {"flights": known})
    before = pc.less_equal(rows["time"], pa.scalar(CUT, pa.timestamp("us", tz="UTC")))
    past, same_past = rows.filter(before), without_future.filter(before)
    assert past.num_rows > 5000
    for name in SPEC.columns:
        np.testing.assert_array_equal(np.asarray(past[name]), np.asarray(same_past[name]), err_msg=name)
    after = pc.invert(before)
    changed = np.asarray(rows.filter(after)["org_overdue"]) != np.asarray(
        without_future.filter(after)["org_overdue"]
    )
    assert changed.any(), "blanking must change something, or this test proves nothing"


def test_recent_features_are_what_a_loop_finds() -> None:
    """The searches in sorted arrays against the definition, written down naively, for sixty flights."""
    tables = january()
    rows, _ = data.assemble(tables)
    known = tables["flights"]
    departs = np.asarray(known["time_hour"].cast(pa.int64())) // 60 + np.asarray(known["minute"])
    delay = np.asarray(known["dep_delay"].cast(pa.float64()))
    departed = np.where(np.isnan(delay), NEVER, departs + np.nan_to_num(delay))
    origin, carrier = (np.asarray(known[name]) for name in ("origin", "carrier"))
    ids = data._ids(known).to_pylist()
    found = {
        name: dict(zip(rows["id"].to_pylist(), np.asarray(rows[name]).tolist(), strict=True))
        for name in ("org2h_mean", "org2h_n", "oc3h_mean", "oc3h_n", "org_overdue", "org_sched_1h")
    }
    for i in np.random.default_rng(3).choice(len(ids), 60, replace=False):
        now, others = departs[i], np.arange(len(ids)) != i
        for name, group, minutes in (
            ("org2h", origin == origin[i], 120),
            ("oc3h", (origin == origin[i]) & (carrier == carrier[i]), 180),
        ):
            inside = group & others & (departed <= now) & (departed >= now - minutes)
            assert found[f"{name}_n"][ids[i]] == inside.sum()
            if inside.any():
                expected = np.clip(delay[inside], -15, 180).mean()
                assert found[f"{name}_mean"][ids[i]] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        due = (origin == origin[i]) & (departs >= now - 180) & (departs <= now - 5) & (departed > now)
        assert found["org_overdue"][ids[i]] == due.sum()
        same = (origin == origin[i]) & (departs // 60 == now // 60)
        assert found["org_sched_1h"][ids[i]] == same.sum()


def test_an_early_departure_is_no_evidence_about_itself() -> None:
    now = np.array([100, 200])
    mean, count = features.mean_before(
        now, np.zeros(2, np.int64), np.array([95, 195]), np.array([-5.0, -5.0]), 120
    )
    assert count.tolist() == [0, 1]
    assert np.isnan(mean[0])
    assert mean[1] == -5


def test_arrivals_are_in_the_destinations_time() -> None:
    """New York to Los Angeles: 6:00 to 9:14 by the clocks is 6 hours 14 minutes."""
    rows, _ = data.assemble(january())
    west = rows.filter(pc.and_(pc.equal(rows["dest"], "LAX"), pc.equal(rows["origin"], "JFK")))
    elapsed = np.asarray(west["sched_elapsed"])
    assert 340 < np.median(elapsed) < 400
    assert np.asarray(rows["sched_elapsed"]).min() > 15


def _outcome_times(known: pa.Table) -> dict[str, np.ndarray]:
    """When each delay became known, in minutes, by name; the far past where it never did."""
    tables = january() | {"flights": known}
    day = data._day_number(known)
    departs = data._minutes(known["time_hour"]) + data._ints(known["minute"])
    arrives = data._scheduled_arrivals(known, tables["airports"], day, departs)
    return {
        "dep_delay": np.nan_to_num(departs + data._floats(known["dep_delay"]), nan=-1.0),
        "arr_delay": np.nan_to_num(arrives + data._floats(known["arr_delay"]), nan=-1.0),
    }


def _minutes(moment: datetime) -> int:
    return int(moment.timestamp()) // 60
