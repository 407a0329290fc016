"""The champion against itself: independent events show no spread, bursts of one replica do, however long."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.gate_case import live

from sevenfold.gates.rules.rate_ratio import over_dispersion
from sevenfold.gates.rules.rule import Unusable
from sevenfold.measures.aa import (
    FEWEST,
    Served,
    by_replica,
    by_request,
    measure,
    read_served,
    sentence,
    spread,
)
from sevenfold.monitoring.answers import FOLDER

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


def counts(bursts: float, lasting: int, seed: int = 1, k: int = 4096) -> np.ndarray:
    """Intervals of two halves; the rate of each varies by this coefficient, so many intervals at a time."""
    random = np.random.default_rng(seed)
    arms = []
    for _ in range(2):
        rate = random.gamma(1 / bursts**2, bursts**2, k // lasting).repeat(lasting) if bursts else np.ones(k)
        arms += [random.poisson(2.0 * rate).astype(float), np.full(k, 200.0)]
    return np.stack(arms, axis=1)


def test_independent_events_show_no_spread() -> None:
    found = [spread("errors", counts(0.0, 1, seed)).phi or 0.0 for seed in range(20)]
    assert sum(one > 1.1 for one in found) <= 2
    assert min(found) >= 1.0


def test_bursts_of_one_half_show() -> None:
    assert (spread("errors", counts(1.0, 1)).phi or 0.0) > 2


def test_bursts_that_last_are_seen_in_wider_blocks_only() -> None:
    """Interval by interval they look nearly independent; over a minute they do not."""
    lasting = counts(0.5, 32)
    assert over_dispersion(lasting) < 1.6
    assert (spread("errors", lasting).phi or 0.0) > 4


def test_an_outage_of_both_halves_is_no_spread() -> None:
    calm = counts(0.0, 1)
    calm[100:400, (0, 2)] = np.random.default_rng(2).poisson(40.0, (300, 2))
    assert (spread("errors", calm).phi or 9.0) < 1.1


@pytest.mark.parametrize("few", [np.zeros((0, 4)), np.tile([0.0, 9, 0, 9], (500, 1)), counts(0.0, 1)[:40]])
def test_too_little_says_so(few: np.ndarray) -> None:
    found = spread("errors", few)
    assert found.phi is None
    assert f"{FEWEST} are needed" in found.why_not
    assert "not known" in sentence(found, None)


def served(second: float, replica: str, error: bool = False, slow: bool = False) -> Served:
    return Served(BEGAN + timedelta(seconds=second), replica, error, slow)


def test_answers_are_split_by_the_replica_that_gave_them() -> None:
    answers = [
        served(0.0, "a", error=True),
        served(0.5, "b"),
        served(1.9, "a", slow=True),
        served(2.1, "b", error=True),
        served(2.2, "c"),
    ]
    found = by_replica(answers, timedelta(seconds=2))
    assert found["errors"].tolist() == [[1, 2, 0, 1], [0, 1, 1, 1]]
    assert found["slow"].tolist() == [[1, 2, 0, 1], [0, 1, 0, 1]]
    with pytest.raises(Unusable, match="1 replica has answered"):
        by_replica([one for one in answers if one.replica == "a"], timedelta(seconds=2))


def test_all_rows_of_a_request_are_on_one_side() -> None:
    """Rows that are wrong together are no independent rows: a split by row would hide it."""
    random = np.random.default_rng(3)
    request = [f"q{number // 8}" for number in range(16_000)]
    wrong = np.repeat(random.random(2000) < 0.2, 8)
    part = np.arange(16_000) // 160
    assert (spread("wrong_labels", by_request(request, wrong, part)).phi or 0.0) > 4
    each = [f"q{number}" for number in range(16_000)]
    alone = by_request(each, random.random(16_000) < 0.2, part)
    assert (spread("wrong_labels", alone).phi or 9.0) < 1.5


def write(logs: Path, lines: Iterable[str]) -> None:
    (logs / FOLDER).mkdir()
    (logs / FOLDER / "here.a.jsonl").write_text("\n".join(lines) + "\n")


def test_only_the_champions_live_answers_are_read(tmp_path: Path) -> None:
    line = {
        "t": "2026-11-23T00:00:01.000Z", "path": "/v2/models/toy/infer", "status": 200, "us": 5000,
        "cluster": "toy-1.live", "host": "127.0.0.1:9001",
    }  # fmt: skip
    lines = [
        line | {"status": 503, "us": 200_000},
        line | {"cluster": "toy-2.live"},
        line | {"cluster": "toy-1.staging"},
        line | {"path": "/v2/models/other/infer"},
        line | {"host": None},
        line | {"t": "2026-11-22T00:00:01.000Z"},
        {"torn": 1},
    ]
    write(tmp_path, [*map(json.dumps, lines), "{torn"])
    (found,) = read_served(tmp_path, "toy", "toy-1", 100.0, BEGAN)
    assert (found.replica, found.error, found.slow) == ("127.0.0.1:9001", True, True)
    assert read_served(tmp_path / "none", "toy", "toy-1", 100.0, BEGAN) == []


def test_the_sentence_says_what_it_means_for_the_gate() -> None:
    found = spread("errors", counts(1.0, 1))
    assert "the gate says 1, which is too little" in sentence(found, live())
    assert "the gate says 9, which is enough" in sentence(found, live(over_dispersion=9))


def test_the_logs_of_a_champion_are_measured_as_they_are_written(tmp_path: Path) -> None:
    from sevenfold.model.spec import load_spec
    from sevenfold.serving.log import FeedbackLog, PredictionLog
    from sevenfold.serving.protocol import Signature

    spec, day = load_spec("flight_delay"), datetime(2013, 7, 1, tzinfo=UTC)
    random = np.random.default_rng(4)
    answers = PredictionLog(tmp_path, spec.name, "old", Signature(("x",), ()))
    labels = FeedbackLog(tmp_path, spec.name)
    for number in range(800):
        at, name = day + timedelta(hours=6 * (number // 10), minutes=number % 10), f"r{number}"
        inputs = [{"name": "numeric", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]
        body = {"inputs": inputs, "parameters": {"ids": [name], "time": at.isoformat()}}
        answers.append(
            time=at,
            request_id=f"q{number}",
            arm="champion" if number % 100 else "shadow",
            prediction=np.array([0.9], np.float32),
            microseconds=100,
            request=json.dumps(body).encode(),
        )
        known = (at + timedelta(hours=3)).isoformat()
        label = {"id": name, "label": int(random.random() < 0.7), "known_at": known}
        labels.append(json.dumps({"labels": [label]}).encode())
    gateway = [
        {
            "t": (BEGAN + timedelta(seconds=number)).isoformat(), "path": f"/v2/models/{spec.name}/infer",
            "status": 200 if random.random() < 0.8 else 503, "us": 100.0, "cluster": "old.live",
            "host": f"127.0.0.1:900{number % 2}",
        }
        for number in range(600)
    ]  # fmt: skip
    write(tmp_path, map(json.dumps, gateway))
    final = day + timedelta(days=20)
    found = {one.metric: one for one in measure(tmp_path, spec, "old", timedelta(seconds=2), BEGAN, final)}
    assert found["errors"].phi is not None
    assert found["errors"].events == sum(line["status"] != 200 for line in gateway)
    assert found["slow"].phi is None, "nothing was slow, which says nothing of how slow answers come"
    assert found["wrong_labels"].phi is not None
    assert 1 <= found["wrong_labels"].phi < 1.6
    earlier = measure(tmp_path, spec, "old", timedelta(seconds=2), BEGAN, day + timedelta(days=2))
    assert next(one for one in earlier if one.metric == "wrong_labels").phi is None, (
        "labels are not final yet"
    )
