"""Judging: what decides, what is only shown, what a person reads, and what cannot change a verdict."""

from __future__ import annotations

import random
from datetime import timedelta
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gate_case import (
    CANDIDATE,
    CHAMPION,
    NOW,
    PROMOTION,
    interval,
    judged,
    live,
    metric,
    only,
    policy,
    reading,
)

from sevenfold.gates.analysis import AnalysisRun
from sevenfold.gates.measurement import Measurement
from sevenfold.gates.policy import Metric
from sevenfold.gates.verdict import Verdict

LOSS = metric()
GOOD = {"value": 0.5, "low": 0.48, "high": 0.52}
BAD = {"value": 0.75, "low": 0.74, "high": 0.76}
UNSURE = {"value": 0.69, "low": 0.6, "high": 0.75}
ERRORS = live()


def test_the_run_names_what_it_judged() -> None:
    gate = policy(LOSS)
    run = judged(gate, [reading(LOSS, **GOOD)])
    assert (run.promotion, run.candidate, run.environment) == (PROMOTION.id, CANDIDATE.id, "testing")
    assert run.policy_hash == gate.hash
    assert AnalysisRun.model_validate_json(run.model_dump_json()) == run


def test_the_sentence_is_fact_rule_consequence() -> None:
    of = metric(rule="non_inferior", baseline="champion", margin=0.01, alpha=0.025)
    april = {
        "window_start": NOW.replace(year=2013, month=4, day=1, hour=0),
        "window_end": NOW.replace(year=2013, month=5, day=1, hour=0),
    }
    run = judged(of, [reading(of, 0.517, baseline_value=0.520, low=-0.010, high=0.004, **april)])
    assert only(run).reason == (
        "log loss on April 2013 is 0.517, 0.003 better than the champion's "
        "(95 % interval -0.010 to 0.004, margin 0.010): good enough to go on."
    )


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (GOOD, Verdict.SUCCESSFUL, "good enough to go on"),
        (UNSURE, Verdict.INCONCLUSIVE, "a person decides"),
        (BAD, Verdict.FAILED, "the candidate is rejected"),
    ],
)
def test_each_verdict_has_its_consequence(found: dict[str, float], verdict: Verdict, words: str) -> None:
    run = judged(LOSS, [reading(LOSS, **found)])
    assert run.verdict is verdict
    assert words in run.reason


def test_the_worst_metric_is_the_reason() -> None:
    other = metric(metric="other_loss")
    third = metric(metric="third_loss")
    run = judged(
        policy(LOSS, other, third),
        [reading(LOSS, **UNSURE), reading(other, **BAD), reading(third, **BAD)],
    )
    assert run.verdict is Verdict.FAILED
    assert run.reason.startswith("Other loss is 0.750")
    assert run.reason.endswith("1 more of 3 metrics are Failed.")


def test_a_dry_run_is_shown_and_decides_nothing() -> None:
    trial = metric(metric="trial_loss", dry_run={"until": NOW.date()})
    run = judged(policy(LOSS, trial), [reading(LOSS, **GOOD), reading(trial, **BAD)])
    assert run.verdict is Verdict.SUCCESSFUL
    shown = run.metrics[1]
    assert shown.verdict is Verdict.FAILED
    assert not shown.decides
    assert "dry run until 2026-11-23" in shown.reason


def test_a_failure_that_is_not_critical_asks_a_person() -> None:
    soft = metric(critical=False)
    run = judged(soft, [reading(soft, **BAD)])
    assert run.verdict is Verdict.INCONCLUSIVE
    assert "not critical a person decides" in run.reason
    assert judged(soft, []).verdict is Verdict.ERROR


def test_a_pass_beyond_the_warning_mark_warns() -> None:
    of = metric(
        metric="calibration_ratio",
        unit="ratio",
        direction="inside",
        rule="within",
        within=[0.5, 2.0],
        warn=[0.7, 1.3],
    )
    run = judged(of, [reading(of, 1.41, low=1.35, high=1.5)])
    assert run.verdict is Verdict.SUCCESSFUL
    assert only(run).warning
    assert "with a warning as it is beyond 0.700 to 1.30" in run.reason
    assert not only(judged(of, [reading(of, 1.1, low=1.0, high=1.2)])).warning


def test_until_the_deadline_the_sample_grows_and_then_a_person_is_asked() -> None:
    readings = [interval(ERRORS, 1, 5, 500, 45, 4500)]
    run = judged(ERRORS, readings)
    assert run.verdict is Verdict.INCONCLUSIVE
    assert run.decide_by == readings[0].measured_at + timedelta(hours=1)
    assert not run.overdue
    assert "the sample grows until 23 November 12:59 UTC" in run.reason
    assert PROMOTION.began_at < readings[0].measured_at
    late = judged(ERRORS, readings, now=NOW + timedelta(hours=1))
    assert late.overdue
    assert late.verdict is Verdict.INCONCLUSIVE
    assert "a person decides" in late.reason


def test_a_decided_run_has_no_deadline() -> None:
    assert judged(LOSS, [reading(LOSS, **GOOD)]).decide_by is None


def test_small_slices_are_reported_and_do_not_decide() -> None:
    of = metric(
        metric="true_positive_rate_gap",
        unit="share",
        rule="fairness",
        limit=0.2,
        slices="every",
        min_slice_size=500,
    )
    readings = [
        reading(of, 0.07, slice="EWR", low=0.03, high=0.11),
        reading(of, 0.6, slice="OO", low=0.4, high=0.8, n=4),
    ]
    run = judged(of, readings)
    assert run.verdict is Verdict.SUCCESSFUL
    large, small = run.metrics
    assert (large.slice, large.decides) == ("EWR", True)
    assert (small.slice, small.decides, small.verdict) == ("OO", False, Verdict.FAILED)
    assert "recorded only, as fewer than 500" in small.reason


def test_every_slice_must_pass() -> None:
    of = metric(slices=["JFK", "LGA"])
    fine = reading(of, **GOOD, slice="JFK")
    assert judged(of, [fine, reading(of, **GOOD, slice="LGA")]).verdict is Verdict.SUCCESSFUL
    run = judged(of, [fine, reading(of, **BAD, slice="LGA")])
    assert run.verdict is Verdict.FAILED
    assert "log loss of LGA" in run.metrics[1].reason


def test_the_newest_reading_decides() -> None:
    old = reading(LOSS, **BAD, measured_at=NOW - timedelta(hours=2))
    assert judged(LOSS, [old, reading(LOSS, **GOOD)]).verdict is Verdict.SUCCESSFUL
    assert judged(LOSS, [reading(LOSS, **GOOD), old]).verdict is Verdict.SUCCESSFUL
    new = reading(LOSS, **BAD, measured_at=NOW)
    assert judged(LOSS, [new, reading(LOSS, **GOOD)]).verdict is Verdict.FAILED


def test_measuring_until_it_passes_gets_harder() -> None:
    nearly = {"value": 0.66, "low": 0.63, "high": 0.69}
    assert judged(LOSS, [reading(LOSS, **nearly)]).verdict is Verdict.SUCCESSFUL
    tries = [
        reading(LOSS, 0.69 + number / 1000, low=0.6, high=0.8, measured_at=NOW - timedelta(hours=1))
        for number in range(5)
    ]
    assert judged(LOSS, [*tries, reading(LOSS, **nearly)]).verdict is Verdict.INCONCLUSIVE


def test_a_retry_that_measures_the_same_costs_nothing() -> None:
    nearly = {"value": 0.66, "low": 0.63, "high": 0.69}
    again = [reading(LOSS, **nearly, measured_at=NOW - timedelta(minutes=n)) for n in range(1, 6)]
    assert judged(LOSS, again).verdict is Verdict.SUCCESSFUL


def test_of_several_windows_the_last_one_decides() -> None:
    weeks = [
        reading(LOSS, **BAD, interval="2013-06-03"),
        reading(LOSS, **GOOD, interval="2013-06-10"),
        reading(LOSS, **BAD, interval="2013-05-27"),
    ]
    assert judged(LOSS, weeks).verdict is Verdict.SUCCESSFUL


def test_each_use_of_a_test_set_is_stricter() -> None:
    of = metric(rule="non_inferior", baseline="champion", margin=0.01, max_uses=20)
    readings = [reading(of, 0.5, counts={"mean_diff": -0.001, "se": 0.005})]
    verdicts = [judged(of, readings, uses=use).verdict for use in (1, 2, 20, 21)]
    assert verdicts == [Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.ERROR]


def test_a_polled_contract_counts_its_failures() -> None:
    of = metric(
        metric="probes",
        unit="checks",
        rule="all_true",
        interval="1m",
        deadline="1h",
        count=5,
        failure_limit=1,
    )

    def probes(*violations: int) -> list[Measurement]:
        return [reading(of, value, n=1, interval=str(key)) for key, value in enumerate(violations)]

    assert judged(of, probes(0, 0, 0, 0, 0)).verdict is Verdict.SUCCESSFUL
    assert judged(of, probes(0, 0, 0, 0)).verdict is Verdict.INCONCLUSIVE
    assert judged(of, probes(0, 1, 0, 0, 0)).verdict is Verdict.SUCCESSFUL
    run = judged(of, probes(0, 1, 0, 1, 0))
    assert run.verdict is Verdict.FAILED
    assert "in 2 of 5 intervals, 1 are tolerated" in run.reason


def test_undecided_intervals_are_limited_too() -> None:
    of = metric(
        metric="size", unit="MB", limit=10, deterministic=True, interval="1m", deadline="1h", min_sample=5
    )
    few = [reading(of, 1.0, n=2, interval=str(key)) for key in range(3)]
    assert judged(of, few).verdict is Verdict.INCONCLUSIVE
    assert "3 of 3 intervals" in judged(of, few).reason


def test_a_catastrophe_fails_at_the_first_poll_however_small() -> None:
    of = live(min_sample=1000, count=10)
    run = judged(of, [interval(of, 1, 25, 50, 4, 450)])
    assert run.verdict is Verdict.FAILED


def test_the_risk_of_failing_is_divided_among_the_metrics() -> None:
    rates = [live(metric=f"rate_{number}") for number in range(10)]
    worse = [interval(rates[0], key, 19, 500, 90, 4500) for key in range(2)]
    assert judged(rates[0], worse).verdict is Verdict.FAILED
    fine = [interval(of, key, 5, 500, 90, 4500) for of in rates[1:] for key in range(2)]
    run = judged(policy(*rates), [*worse, *fine])
    assert run.metrics[0].verdict is Verdict.INCONCLUSIVE


def test_a_first_candidate_in_a_canary_is_held_to_the_floor() -> None:
    of = live(limit=0.01)
    alone = {"baseline": "none", "baseline_candidate": None}
    clean = [interval(of, key, 0, 500, 0, 0, **alone) for key in range(3)]
    run = judged(of, clean, champion=None)
    assert run.verdict is Verdict.SUCCESSFUL
    assert not run.compared
    assert "no champion: nothing compared" in run.reason


numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e308, -1e308, 5e-324]),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_measured_judging_ends_in_a_verdict(data: st.DataObject) -> None:
    """No reading, however broken, raises; and one without finite numbers never passes."""
    of = data.draw(
        st.sampled_from(
            [
                LOSS,
                ERRORS,
                live(limit=0.01),
                metric(rule="all_true"),
                metric(rule="auc", baseline="champion", margin=0.01, direction="higher"),
                metric(rule="non_inferior", baseline="champion", margin=0.01),
                metric(rule="latency_pairs", baseline="champion", margin=1.1),
                metric(rule="fairness", limit=0.1),
                metric(rule="binomial", limit=0.1),
                metric(rule="within", direction="inside", within=[0, 1]),
            ]
        )
    )
    names = ["e1", "n1", "e0", "n0", "bad", "n", "mean_diff", "se", "clusters", "phi", "share", "auc"]
    names += ["baseline_auc", "mean_log_ratio", "pairs", "uses"]
    counts = data.draw(
        st.none() | st.dictionaries(st.sampled_from(names), numbers.filter(lambda x: x is not None))
    )
    found = reading(
        of,
        data.draw(numbers),
        low=data.draw(numbers),
        high=data.draw(numbers),
        baseline_value=data.draw(numbers),
        n=data.draw(st.integers(-5, 10**6)),
        counts=counts,
        interval="1" if of.polled else None,
    )
    run = judged(of, [found])
    assert run.reason.endswith(".")
    given_numbers = [found.value, found.low, found.high, *(counts or {}).values()]
    if any(number is not None and not isfinite(number) for number in given_numbers):
        assert run.verdict is not Verdict.SUCCESSFUL


counted = st.lists(
    st.tuples(st.integers(0, 40), st.integers(41, 500), st.integers(0, 200), st.integers(201, 3000)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(counted, st.randoms(use_true_random=False), st.lists(st.integers(0, 24)))
def test_order_and_duplicates_of_intervals_change_nothing(
    counts: list[tuple[int, int, int, int]], shuffle: random.Random, again: list[int]
) -> None:
    readings = [interval(ERRORS, key, *each) for key, each in enumerate(counts)]
    twice = readings + [readings[index % len(readings)] for index in again]
    shuffle.shuffle(twice)
    assert judged(ERRORS, twice) == judged(ERRORS, readings)


def of_either(readings: list[Measurement], of: Metric) -> Verdict:
    return judged(of, readings, champion=CHAMPION).verdict


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 3000)), min_size=1, max_size=50))
def test_silence_is_no_evidence(requests: list[tuple[int, int]]) -> None:
    """Requests without a single bad event in either arm neither pass nor fail the ratio, however many."""
    silent = [interval(ERRORS, key, 0, n1, 0, n0) for key, (n1, n0) in enumerate(requests)]
    assert of_either(silent, ERRORS) is Verdict.INCONCLUSIVE
