"""Policies, candidates and readings for the tests of gates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sevenfold.candidates.candidate import Candidate
from sevenfold.gates.analysis import AnalysisRun, MetricResult, judge
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy
from sevenfold.release.promotion import Promotion

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def candidate(letter: str) -> Candidate:
    return Candidate(
        model="flight_delay",
        model_digest=letter * 64,
        data_snapshot="data",
        code_commit="code",
        policy_hash="policy",
        as_of=NOW,
        train_window=(NOW - timedelta(days=90), NOW),
    )


CANDIDATE, CHAMPION, STRANGER = candidate("a"), candidate("b"), candidate("c")

PROMOTION = Promotion(
    id="flight_delay/testing/run",
    model="flight_delay",
    environment="testing",
    run="run",
    origin=None,
    candidate=CANDIDATE.id,
    as_of=NOW,
    reason="a test",
    params={},
    requested_by="tester",
    state="running",
    verdict=None,
    outcome=None,
    began_at=NOW - timedelta(minutes=10),
    ended_at=None,
)


def metric(**keys: Any) -> Metric:
    """A metric of a policy; log loss at most 0.69 unless said otherwise."""
    given = {
        "metric": "log_loss",
        "activity": "benchmark",
        "meaning": "Asked for the sake of the test.",
        "unit": "nats",
        "direction": "lower",
        "rule": "at_most",
    }
    if "rule" not in keys:
        given["limit"] = 0.69
    return Metric.model_validate(given | keys)


def live(**keys: Any) -> Metric:
    """A live metric: errors against the champion, polled every minute."""
    return metric(
        **{
            "metric": "errors",
            "activity": "canary",
            "unit": "share",
            "rule": "rate_ratio",
            "baseline": "champion",
            "margin": 1.5,
            "interval": "1m",
            "deadline": "1h",
        }
        | keys
    )


def policy(*metrics: Metric) -> Policy:
    return Policy(
        environment="testing", model="flight_delay", description="A gate of the tests.", metrics=metrics
    )


def reading(of: Metric, value: float | None = None, **keys: Any) -> Measurement:
    """A reading of a metric by the candidate, taken just now, without any fault."""
    compared = of.baseline != "none"
    given = {
        "promotion": PROMOTION.id,
        "candidate": CANDIDATE.id,
        "digest": CANDIDATE.model_digest,
        "activity": of.activity,
        "metric": of.metric,
        "unit": of.unit,
        "value": value,
        "n": 10_000,
        "baseline": of.baseline,
        "baseline_candidate": CHAMPION.id if compared else None,
        "measured_at": NOW - timedelta(minutes=1),
    }
    return Measurement.model_validate(given | keys)


def interval(of: Metric, key: object, e1: float, n1: float, e0: float, n0: float, **keys: Any) -> Measurement:
    """One polled interval: bad events and requests of the candidate and of the champion."""
    counts = {"e1": e1, "n1": n1, "e0": e0, "n0": n0} | keys.pop("counts", {})
    return reading(of, interval=str(key), n=int(n1), counts=counts, **keys)


def judged(
    gate: Policy | Metric,
    readings: Sequence[Measurement],
    *,
    champion: Candidate | None = CHAMPION,
    **context: Any,
) -> AnalysisRun:
    gate = policy(gate) if isinstance(gate, Metric) else gate
    given = {"champion": champion, "accepted": {gate.hash: ""}, "uses": 1} | context
    return judge(gate, readings, CANDIDATE, PROMOTION, given.pop("now", NOW), **given)


def spoken_of(gate: Policy) -> set[tuple[str, str]]:
    """Activity and metric of all that a gate judges, or says that it does not."""
    return {(metric.activity, metric.metric) for metric in gate.metrics} | {
        (entry.activity, name) for entry in gate.not_asked for name in entry.metrics
    }


def only(run: AnalysisRun) -> MetricResult:
    """The result of a gate with one metric."""
    (result,) = run.metrics
    return result
