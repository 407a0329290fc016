"""rate_ratio and binomial: valid at every poll, whatever the order, the split and the base rate."""

from __future__ import annotations

import random
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.benchmarks.gates.simulation import World
from tests.benchmarks.gates.simulation import log_evidence as simulated_evidence
from tests.gate_case import CHAMPION, interval, judged, live, metric, reading

from sevenfold.gates.rules import Unusable, binomial, rate_ratio
from sevenfold.gates.rules.evidence import odds
from sevenfold.gates.rules.rate_ratio import confidence, log_evidence, over_dispersion
from sevenfold.gates.rules.sample_ratio import mismatch
from sevenfold.gates.verdict import Verdict

S, H, E, F = Verdict.SUCCESSFUL, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED
ERRORS = live()
DISAGREEMENT = metric(
    metric="disagreement", unit="share", rule="binomial", limit=0.35, interval="1m", deadline="1h"
)

Counts = list[tuple[int, int, int, int]]
counted = st.lists(
    st.tuples(st.integers(0, 40), st.integers(41, 500), st.integers(0, 200), st.integers(201, 3000)),
    min_size=1,
    max_size=25,
)


def evidence(counts: object) -> tuple[float, float]:
    return log_evidence(np.array(counts, dtype=float), margin=1.5)


@pytest.mark.parametrize(("bad", "verdict"), [(100, S), (200, F), (125, H)])
def test_ten_thousand_against_ninety_thousand(bad: int, verdict: Verdict) -> None:
    """At 1 % of the champion's requests: equal passes, twice as bad fails, in between holds."""
    run = judged(ERRORS, [interval(ERRORS, key, bad / 20, 500, 45, 4500) for key in range(20)])
    assert run.verdict is verdict


def test_evidence_is_told_as_odds() -> None:
    run = judged(ERRORS, [interval(ERRORS, key, 5, 500, 45, 4500) for key in range(20)])
    assert "to 1 that it is within 1.5 times the champion's; 20 to 1 is asked" in run.reason
    assert [odds(log(34.4)), odds(log(1.26)), odds(-1.0), odds(99.0)] == [
        "34 to 1",
        "1.3 to 1",
        "less than even",
        "more than 1,000,000 to 1",
    ]


def test_the_result_is_the_ratio_with_its_interval() -> None:
    result = judged(ERRORS, [interval(ERRORS, key, 6, 500, 45, 4500) for key in range(20)]).metrics[0]
    assert result.value == pytest.approx(1.2)
    assert result.low is not None
    assert result.high is not None
    assert 1 < result.low + 0.2 < 1.2 < result.high < 2
    none_of_the_champion = judged(ERRORS, [interval(ERRORS, 1, 6, 500, 0, 4500)]).metrics[0]
    assert none_of_the_champion.value is None


def test_counts_that_cannot_be_true_are_an_error() -> None:
    run = judged(ERRORS, [interval(ERRORS, key, 10, 1e20, 10, 1e20) for key in range(3)])
    assert run.verdict is E


def test_a_very_clean_service_passes_by_its_floor() -> None:
    of = live(limit=0.01)
    run = judged(of, [interval(of, key, 0, 500, 0, 4500) for key in range(2)])
    assert run.verdict is S
    assert "that it is below 1 %; 40 to 1 is asked" in run.reason


def test_the_floor_does_not_excuse_what_is_above_it() -> None:
    of = live(limit=0.01)
    assert judged(of, [interval(of, key, 25, 500, 45, 4500) for key in range(4)]).verdict is F


def test_bursts_weigh_less() -> None:
    """Over-dispersion divides the evidence: what decides at 1 holds at 10."""
    counts = [interval(ERRORS, key, 5, 500, 45, 4500) for key in range(20)]
    assert judged(ERRORS, counts).verdict is S
    bursty = live(over_dispersion=10)
    assert judged(bursty, counts).verdict is H
    measured = [interval(ERRORS, key, 5, 500, 45, 4500, counts={"phi": 10}) for key in range(20)]
    assert judged(ERRORS, measured).verdict is H


def test_over_dispersion_of_an_a_a_run() -> None:
    rng = np.random.default_rng(5)

    def run(spread: float) -> float:
        arms = rng.gamma(1 / spread**2, spread**2, (60, 2)) if spread else np.ones((60, 2))
        e1, e0 = rng.poisson(20 * arms[:, 0]), rng.poisson(180 * arms[:, 1])
        return over_dispersion(np.stack([e1, np.full(60, 1000), e0, np.full(60, 9000)], axis=1))

    assert 1 <= np.median([run(0) for _ in range(30)]) < 1.5
    assert np.median([run(0.6) for _ in range(30)]) > 4
    with pytest.raises(Unusable, match="without one bad event"):
        over_dispersion([[0, 10, 0, 90]])


def test_an_unfair_split_is_an_error_not_a_failure() -> None:
    """The candidate is twice as bad, but nobody knows whose requests it got."""
    run = judged(ERRORS, [interval(ERRORS, k, 10, 600, 45, 4400, counts={"share": 0.1}) for k in range(20)])
    assert run.verdict is E
    assert "got 12,000 of 100,000 requests where 10,000 were planned" in run.reason


def test_a_fair_split_is_rarely_called_unfair() -> None:
    rng = np.random.default_rng(6)
    called = 0
    for _ in range(500):
        n1 = rng.binomial(500, 0.1, size=100)
        planned = np.stack([n1, 500 - n1, np.full(100, 0.1)], axis=1).astype(float)
        called += mismatch(planned) >= log(1 / rate_ratio.UNFAIR)
    assert called <= 3


def test_an_interval_with_one_arm_only_compares_nothing() -> None:
    both = [[5, 500, 45, 4500]]
    assert evidence([*both, [0, 500, 0, 0], [0, 0, 70, 900]]) == pytest.approx(evidence(both))


@pytest.mark.parametrize(
    ("bad", "n", "verdict"), [(20, 100, S), (24, 100, H), (35, 100, H), (45, 100, H), (60, 100, F)]
)
def test_a_share_against_its_limit(bad: int, n: int, verdict: Verdict) -> None:
    readings = [
        reading(DISAGREEMENT, bad / n, interval=str(key), counts={"bad": bad / 4, "n": n / 4})
        for key in range(4)
    ]
    assert judged(DISAGREEMENT, readings).verdict is verdict


@pytest.mark.parametrize("beside", ["none", "champion"])
def test_an_absolute_share_counts_with_a_champion_beside_it_and_without(beside: str) -> None:
    named = CHAMPION.id if beside == "champion" else None
    counts = {"bad": 5, "n": 100}
    found = reading(
        DISAGREEMENT, 0.05, baseline=beside, baseline_candidate=named, interval="1", counts=counts
    )
    assert judged(DISAGREEMENT, [found]).verdict is S


def test_nothing_counted_yet_holds() -> None:
    found = reading(DISAGREEMENT, 0.0, n=0, interval="1", counts={"bad": 0, "n": 0})
    assert judged(DISAGREEMENT, [found]).verdict is H


def ever(log_e: np.ndarray, alpha: float = 0.05) -> float:
    return float(np.mean((log_e >= -np.log(alpha)).any(axis=1)))


def test_looking_after_every_poll_keeps_the_risk() -> None:
    """At the margin it ever passes, and when equal it ever fails, in at most 5 % of 400 runs of 200 polls."""
    world, rng = World("200 polls", 200, 50, 450), np.random.default_rng(7)
    passed, _ = simulated_evidence(world.traffic(1.5, 400, rng))
    _, failed = simulated_evidence(world.traffic(1.0, 400, rng))
    assert ever(passed) <= 0.05
    assert ever(failed) <= 0.05


def test_a_live_share_keeps_its_risk_too() -> None:
    rng = np.random.default_rng(8)
    bad = rng.binomial(20, 0.1, (200, 100)).cumsum(axis=1)
    polls = range(4, 100, 5)
    found = np.array(
        [[binomial.log_evidence(bad[run, k], 20 * (k + 1), 0.1) for k in polls] for run in range(200)]
    )
    assert ever(found[:, :, 0]) <= 0.05
    assert ever(found[:, :, 1]) <= 0.05


def test_the_confidence_sequence_holds_the_truth() -> None:
    rng = np.random.default_rng(9)
    missed = 0
    for _ in range(200):
        n = 20
        counts = [
            rng.binomial(500, 0.013, n),
            np.full(n, 500),
            rng.binomial(4500, 0.01, n),
            np.full(n, 4500),
        ]
        low, high = confidence(np.stack(counts, axis=1).astype(float), 0.05)
        missed += not low <= 1.3 <= high
    assert missed <= 10


@settings(max_examples=100, deadline=None)
@given(counted, st.randoms(use_true_random=False))
def test_order_does_not_matter(counts: Counts, shuffle: random.Random) -> None:
    other = list(counts)
    shuffle.shuffle(other)
    assert evidence(other) == pytest.approx(evidence(counts), abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(counted, st.integers(2, 5))
def test_polling_finer_is_the_same_evidence(counts: Counts, parts: int) -> None:
    finer = [tuple(count / parts for count in each) for each in counts for _ in range(parts)]
    assert evidence(finer) == pytest.approx(evidence(counts), abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(counted, st.integers(0, 24), st.integers(1, 20))
def test_more_errors_of_the_challenger_never_help(counts: Counts, where: int, more: int) -> None:
    e1, n1, e0, n0 = counts[where % len(counts)]
    worse = list(counts)
    worse[where % len(counts)] = (min(e1 + more, n1), n1, e0, n0)
    (good, bad), (worse_good, worse_bad) = evidence(counts), evidence(worse)
    assert worse_good <= good + 1e-9
    assert worse_bad >= bad - 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 3000)), min_size=1, max_size=50))
def test_no_events_are_no_evidence(requests: list[tuple[int, int]]) -> None:
    assert evidence([(0, n1, 0, n0) for n1, n0 in requests]) == pytest.approx((0, 0), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(counted, st.integers(1, 8))
def test_the_order_in_which_chunks_fall_does_not_matter(counts: Counts, chunk: int) -> None:
    from sevenfold.gates.rules import evidence as module

    whole = evidence(counts)
    before, module.CHUNK = module.CHUNK, chunk
    try:
        assert evidence(counts) == pytest.approx(whole, abs=1e-7)
    finally:
        module.CHUNK = before


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100), st.integers(1, 400), st.integers(1, 50))
def test_more_bad_ones_never_help_a_share(bad: int, good: int, more: int) -> None:
    below, above = binomial.log_evidence(bad, bad + good + more, 0.1)
    worse_below, worse_above = binomial.log_evidence(bad + more, bad + good + more, 0.1)
    assert worse_below <= below + 1e-9
    assert worse_above >= above - 1e-9
