"""Gates that must not pass: each fault that shipped gates let through, with the reason that is given for it.

Run with -s to read the reasons. Faults of statements, signatures and overrides are tested beside this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.gate_case import (
    CHAMPION,
    NOW,
    STRANGER,
    interval,
    judged,
    live,
    metric,
    policy,
    reading,
)

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric, Policy
from sevenfold.gates.verdict import Verdict

LOSS = metric(min_sample=100)
SLICED = metric(slices=["JFK", "LGA"])
AGAINST = metric(rule="non_inferior", baseline="champion", margin=0.01)
FIXED_SET = metric(rule="non_inferior", baseline="champion", margin=0.01, max_uses=3)
ERRORS = live()
SHARE = metric(metric="error_rate", unit="share", limit=0.01)
CONTRACT = metric(metric="violations", unit="checks", rule="all_true")
TRIAL = metric(dry_run={"until": NOW.date() - timedelta(days=1)})
LABELS = live(metric="wrong_labels", matured_after="36h", deadline="3d")

GOOD = {"value": 0.5, "low": 0.48, "high": 0.52}
GOOD_DIFFERENCE = {"value": 0.5, "counts": {"mean_diff": -0.01, "se": 0.001}}
CLEAN = (5, 1000, 90, 9000)


@dataclass(frozen=True)
class Fault:
    """Readings that must not pass the metric, and words that the reason must hold."""

    metric: Metric | Policy
    readings: Sequence[Measurement]
    words: str
    verdict: Verdict = Verdict.ERROR
    context: dict[str, Any] = field(default_factory=dict)


def canary(*extra: Measurement, count: int = 20, of: Metric = ERRORS, **keys: Any) -> list[Measurement]:
    """A canary that would be promoted if nothing were wrong."""
    return [interval(of, number, *CLEAN, **keys) for number in range(count)] + list(extra)


FAULTS: dict[str, Fault] = {
    "missing metric": Fault(LOSS, [], "benchmark left no reading"),
    "missing metric of another activity": Fault(
        LOSS, [reading(LOSS, **GOOD, activity="train")], "benchmark left no reading"
    ),
    "no value": Fault(LOSS, [reading(LOSS, None)], "no value"),
    "NaN": Fault(LOSS, [reading(LOSS, float("nan"), low=0.4, high=0.6)], "value is nan"),
    "NaN as a bound": Fault(LOSS, [reading(LOSS, 0.5, low=0.4, high=float("nan"))], "high is nan"),
    "infinite": Fault(LOSS, [reading(LOSS, float("-inf"), low=0.4, high=0.6)], "value is -inf"),
    "NaN in a count": Fault(
        AGAINST, [reading(AGAINST, 0.5, counts={"mean_diff": float("nan"), "se": 0.1})], "mean_diff is nan"
    ),
    "a point without an interval": Fault(LOSS, [reading(LOSS, 0.1)], "a point alone decides nothing"),
    "an interval that is not around the value": Fault(
        LOSS, [reading(LOSS, 0.9, low=0.1, high=0.2)], "does not contain"
    ),
    "a point dressed up as an interval": Fault(LOSS, [reading(LOSS, 0.1, low=0.1, high=0.1)], "has no width"),
    "a difference without any spread": Fault(
        AGAINST, [reading(AGAINST, 0.5, counts={"mean_diff": -0.1, "se": 0.0})], "standard error of -0.1 is 0"
    ),
    "measured on nothing": Fault(LOSS, [reading(LOSS, **GOOD, n=0)], "measured on nothing"),
    "zero in the denominator": Fault(
        SHARE, [reading(SHARE, 0.0, n=5, counts={"bad": 0, "n": 0})], "denominator n is 0"
    ),
    "zero in the denominator of a live rate": Fault(
        ERRORS, [interval(ERRORS, 0, 0, 0, 0, 9000)], "no request", Verdict.INCONCLUSIVE
    ),
    "no champion traffic beside the canary": Fault(
        ERRORS, [interval(ERRORS, 0, 0, 9000, 0, 0)], "the champion served nothing", Verdict.INCONCLUSIVE
    ),
    "an empty contract": Fault(CONTRACT, [reading(CONTRACT, 0, n=0)], "measured on nothing"),
    "fewer than no violations": Fault(CONTRACT, [reading(CONTRACT, -1)], "number of violations is -1"),
    "empty slice": Fault(
        SLICED,
        [reading(SLICED, **GOOD, slice="JFK"), reading(SLICED, **GOOD, slice="LGA", n=0)],
        "of LGA: it was measured on nothing",
    ),
    "missing slice": Fault(SLICED, [reading(SLICED, **GOOD, slice="JFK")], "of LGA: benchmark left no"),
    "the total instead of slices": Fault(SLICED, [reading(SLICED, **GOOD)], "left no reading"),
    "no slice at all": Fault(metric(slices="every"), [], "no slice was measured"),
    "only slices that are too small": Fault(
        metric(slices="every", min_slice_size=500),
        [reading(SLICED, **GOOD, slice="JFK", n=100)],
        "every slice is too small",
        Verdict.INCONCLUSIVE,
    ),
    "too few rows": Fault(LOSS, [reading(LOSS, **GOOD, n=99)], "100 are needed", Verdict.INCONCLUSIVE),
    "wrong digest": Fault(
        LOSS, [reading(LOSS, **GOOD, digest=STRANGER.model_digest)], "measured on model file cccccccccccc"
    ),
    "no digest": Fault(LOSS, [reading(LOSS, **GOOD, digest="")], "model file unknown"),
    "wrong candidate": Fault(LOSS, [reading(LOSS, **GOOD, candidate=STRANGER.id)], STRANGER.id),
    "of another promotion": Fault(
        LOSS, [reading(LOSS, **GOOD, promotion="flight_delay/testing/other")], "flight_delay/testing/other"
    ),
    "stale": Fault(
        LOSS, [reading(LOSS, **GOOD, measured_at=NOW - timedelta(days=8))], "measured 8.0 days ago"
    ),
    "stale canary": Fault(
        live(stale_after="10m"),
        canary(measured_at=NOW - timedelta(minutes=30)),
        "measured 30 min ago",
    ),
    "from the future": Fault(
        LOSS, [reading(LOSS, **GOOD, measured_at=NOW + timedelta(hours=3))], "3.0 h in the future"
    ),
    "counter reset": Fault(ERRORS, canary(interval(ERRORS, "x", -3, 500, 4, 4500)), "counter was reset"),
    "requests of a reset counter": Fault(
        ERRORS, canary(interval(ERRORS, "x", 0, -500, 4, 4500)), "counter was reset"
    ),
    "more errors than requests": Fault(ERRORS, canary(interval(ERRORS, "x", 7, 5, 0, 9)), "which cannot be"),
    "an interval that could not be read": Fault(
        ERRORS, canary(interval(ERRORS, "x", float("nan"), 500, 4, 4500)), "in interval x its e1 is nan"
    ),
    "one interval, two stories": Fault(
        ERRORS, canary(interval(ERRORS, 3, 0, 1000, 90, 9000)), "interval 3 was recorded twice"
    ),
    "a live reading without its interval": Fault(
        ERRORS, canary(reading(ERRORS, counts={"e1": 0, "n1": 500, "e0": 9, "n0": 4500})), "which interval"
    ),
    "counts that are not there": Fault(
        ERRORS, [reading(ERRORS, 0.0, interval="1", counts={"e1": 0, "n1": 500})], "lacks the count 'e0'"
    ),
    "gate stopped before its first measurement": Fault(ERRORS, [], "canary left no reading"),
    "too few intervals": Fault(
        live(count=30, deadline="2h"), canary(), "20 of 30 intervals", Verdict.INCONCLUSIVE
    ),
    "a split that was not planned": Fault(
        ERRORS, canary(counts={"share": 0.2}), "the evidence is more than 1,000,000 to 1 that the split"
    ),
    "expired dry run": Fault(
        policy(TRIAL, SHARE),
        [reading(TRIAL, **GOOD), reading(SHARE, 0.0, counts={"bad": 0, "n": 5000})],
        "its dry run ended on 2026-11-22",
    ),
    "test set used past its budget": Fault(
        FIXED_SET, [reading(FIXED_SET, **GOOD_DIFFERENCE)], "budget is 3 uses", context={"uses": 4}
    ),
    "test set used past its budget, by its own count": Fault(
        FIXED_SET,
        [reading(FIXED_SET, 0.5, counts={"mean_diff": -0.01, "se": 0.001, "uses": 4})],
        "has been used 4 times",
    ),
    "test set whose use nobody counted": Fault(
        FIXED_SET, [reading(FIXED_SET, **GOOD_DIFFERENCE)], "nobody counted the look", context={"uses": None}
    ),
    "compared with nobody": Fault(
        AGAINST, [reading(AGAINST, **GOOD_DIFFERENCE, baseline_candidate=None)], "an unnamed candidate"
    ),
    "compared with a former champion": Fault(
        AGAINST,
        [reading(AGAINST, **GOOD_DIFFERENCE, baseline_candidate=STRANGER.id)],
        f"the champion is {CHAMPION.id}",
    ),
    "compared with nothing although there is a champion": Fault(
        AGAINST,
        [reading(AGAINST, **GOOD_DIFFERENCE, baseline="none")],
        "no reading of it against the champion",
    ),
    "an anchor that nobody named": Fault(
        metric(rule="non_inferior", baseline="anchor", margin=0.01),
        [reading(AGAINST, **GOOD_DIFFERENCE, baseline="anchor")],
        "the anchor is nobody",
    ),
    "an estimate without labels": Fault(
        LOSS, [reading(LOSS, **GOOD, source="estimate of calibration")], "decides nothing"
    ),
    "labels that are still to come": Fault(
        LABELS,
        canary(of=LABELS, window_end=NOW - timedelta(hours=30)),
        "still to come",
        Verdict.INCONCLUSIVE,
        {"data_now": NOW},
    ),
    "labels of unknown age": Fault(
        LABELS, canary(of=LABELS, window_end=NOW - timedelta(hours=99)), "time that the data have reached"
    ),
    "a cohort without an end": Fault(
        LABELS, canary(of=LABELS), "does not say when it ended", context={"data_now": NOW}
    ),
    "a first candidate that misses an absolute limit": Fault(
        LOSS,
        [reading(LOSS, 0.75, low=0.72, high=0.78)],
        "at most 0.690 is asked",
        Verdict.FAILED,
        {"champion": None},
    ),
    "a first candidate in a canary that misses the floor": Fault(
        live(limit=0.01),
        [interval(ERRORS, n, 30, 500, 0, 0, baseline="none", baseline_candidate=None) for n in range(5)],
        "above 1 %",
        Verdict.FAILED,
        {"champion": None},
    ),
    "comparison with a champion that does not exist": Fault(
        live(limit=0.01), canary(), "the champion is nobody", context={"champion": None}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_does_not_pass_and_says_why(name: str) -> None:
    fault = FAULTS[name]
    run = judged(fault.metric, fault.readings, **fault.context)
    print(f"{name}: {run.verdict}. {run.reason}")
    assert run.verdict is fault.verdict
    assert fault.words in run.reason
    assert run.reason.endswith(".")


def test_the_same_without_its_fault_passes() -> None:
    """What makes the faults above count: each metric passes when nothing is wrong."""
    fine: list[tuple[Metric, list[Measurement], dict[str, Any]]] = [
        (LOSS, [reading(LOSS, **GOOD)], {}),
        (SLICED, [reading(SLICED, **GOOD, slice=name) for name in ("JFK", "LGA")], {}),
        (AGAINST, [reading(AGAINST, **GOOD_DIFFERENCE)], {}),
        (FIXED_SET, [reading(FIXED_SET, **GOOD_DIFFERENCE)], {"uses": 3}),
        (ERRORS, canary(), {}),
        (ERRORS, canary(counts={"share": 0.1}), {}),
        (SHARE, [reading(SHARE, 0.0, counts={"bad": 0, "n": 5000})], {}),
        (CONTRACT, [reading(CONTRACT, 0)], {}),
        (LABELS, canary(of=LABELS, window_end=NOW - timedelta(hours=37)), {"data_now": NOW}),
    ]
    for of, readings, context in fine:
        run = judged(of, readings, **context)
        assert run.verdict is Verdict.SUCCESSFUL, run.reason


def test_a_first_candidate_that_meets_the_limits_passes_and_the_record_says_that_nothing_was_compared() -> (
    None
):
    run = judged(policy(LOSS, AGAINST), [reading(LOSS, **GOOD)], champion=None)
    print(run.reason)
    assert run.verdict is Verdict.SUCCESSFUL
    assert not run.compared
    alone, compared = run.metrics
    assert alone.compared
    assert not compared.compared
    assert "no champion: nothing compared" in compared.reason
    assert "1 without a champion to compare with" in run.reason


def test_one_bad_metric_outweighs_any_number_of_good_ones() -> None:
    others = [metric(metric=f"loss_{number}") for number in range(20)]
    readings = [reading(other, **GOOD) for other in others]
    assert judged(policy(*others), readings).verdict is Verdict.SUCCESSFUL
    run = judged(policy(*others, LOSS), readings)
    assert run.verdict is Verdict.ERROR


def test_faults_cannot_hide_behind_a_later_good_interval() -> None:
    """A bad reading stays bad whatever comes after it, unless the policy tolerates so many."""
    broken = interval(ERRORS, "x", -3, 500, 4, 4500)
    assert judged(ERRORS, canary(broken, count=200)).verdict is Verdict.ERROR
    tolerant = live(error_limit=1)
    run = judged(tolerant, canary(broken, count=200))
    assert run.verdict is Verdict.SUCCESSFUL
    assert "1 unusable intervals left out" in run.reason
    two = canary(broken, interval(ERRORS, "y", 9, 1, 0, 1), count=200)
    assert judged(tolerant, two).verdict is Verdict.ERROR


def test_a_gate_that_may_not_judge_the_candidate_passes_nothing_whatever_was_measured() -> None:
    run = judged(LOSS, [reading(LOSS, **GOOD)], accepted={"0" * 64: ""}, refusal="Somebody moved the bar.")
    print(run.reason)
    assert run.verdict is Verdict.ERROR
    assert run.reason == "Somebody moved the bar."
    assert not run.accepted
    refused = judged(LOSS, [reading(LOSS, 0.75, low=0.72, high=0.78)], accepted={})
    assert refused.verdict is Verdict.FAILED


def test_a_change_that_was_let_through_stands_in_the_reason() -> None:
    run = judged(LOSS, [reading(LOSS, **GOOD)], accepted={policy(LOSS).hash: "ann and bob let it"})
    assert run.verdict is Verdict.SUCCESSFUL
    assert run.reason.endswith("(ann and bob let it)")
