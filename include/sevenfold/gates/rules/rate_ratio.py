"""rate_ratio: the rate of bad events of a live challenger against the champion beside it."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.rules import binomial, words
from sevenfold.gates.rules.evidence import between, mixture, odds, ratio_likelihood
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable, count, decide
from sevenfold.gates.rules.sample_ratio import mismatch
from sevenfold.gates.verdict import Verdict

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric

Floats = NDArray[np.float64]

REACH = 4.0
"""Alternatives to 'no worse' reach from harm to this many times harm."""
UNFAIR = 0.001
"""Risk of calling a fair split unfair."""


def judge(case: Case) -> Outcome:
    """Passes when the ratio is proven below the margin, fails when it is proven above `harm` (default 1).

    With an absolute `limit`, a rate proven below it passes as well, each at half of alpha: of a very clean
    service the ratio cannot be proven. Without a champion only the limit is judged.

    Needs: per interval the counts e1, n1 (bad events and requests of the challenger), e0, n0 (champion), and
    optionally share (the planned share of the challenger), phi (over-dispersion of an A/A run).
    Assumes: requests are split at random and both arms serve at the same time; within an interval the bad
    events of an arm are as spread as a Poisson's, or phi times that. Error at most alpha over all polls
    together, whatever the order, the base rate and the split of the intervals.
    Source: Ville 1939; the conditional (binomial) likelihood of Przyborowski and Wilenski 1940, mixed over a
    grid of alternatives; research/gates-and-faults.md, 1.2.
    """
    metric = case.metric
    intervals = _intervals(case.readings, case.compared)
    e1, n1, e0, n0 = (float(total) for total in intervals.sum(axis=0))
    name = _name(case.readings[0])
    if n1 == 0:
        return Outcome(Verdict.INCONCLUSIVE, f"{name}: no request has reached the candidate yet")
    if not case.compared:
        return binomial.against_limit(case, e1, n1)
    _refuse_unfair_split(case.readings)
    if n0 == 0:
        return Outcome(
            Verdict.INCONCLUSIVE,
            f"{name}: the champion served nothing beside the candidate's {n1:,.0f}",
            n=int(n1),
        )

    thinned = intervals / [case.phi, 1, case.phi, 1]
    good, bad = log_evidence(thinned, metric.margin or 1.0, metric.harm)
    floor = -np.inf
    if metric.limit is not None:
        floor, _ = binomial.log_evidence(e1 / case.phi, n1 / case.phi, metric.limit)
    asked = log((1 if metric.limit is None else 2) / case.alpha_pass)
    verdict = decide(good >= asked or floor >= asked, bad >= -log(case.alpha_fail))
    against = (
        f"{name} at {_share(e1, n1)} of the candidate's {n1:,.0f}, "
        f"{_share(e0, n0)} of the champion's {n0:,.0f}"
    )
    if verdict is Verdict.FAILED:
        than = "the champion's" if metric.harm == 1 else f"{metric.harm:g} times the champion's"
        claim = f"the evidence is {odds(bad)} that it is above {than}; {odds(-log(case.alpha_fail))} is asked"
    elif good < asked <= floor:
        limit = words.amount(metric.limit or 0.0, "share")
        claim = f"the evidence is {odds(floor)} that it is below {limit}; {odds(asked)} is asked"
    else:
        claim = (
            f"the evidence is {odds(good)} that it is within {metric.margin:g} times "
            f"the champion's; {odds(asked)} is asked"
        )
    low, high = confidence(thinned, case.alpha_pass)
    return Outcome(verdict, f"{against}; {claim}", ratio(intervals), int(n1), low, high)


def log_evidence(intervals: Floats, margin: float, harm: float = 1.0) -> tuple[float, float]:
    """Log evidence that the rate ratio is below `margin` and that it is above `harm`.

    `intervals` is [k, 4]: e1, n1, e0, n0.
    """
    found = []
    for alternatives, null in ((between(1 / margin, margin), margin), (between(harm, harm * REACH), harm)):
        likelihood = ratio_likelihood(np.append(alternatives, null), intervals)
        found.append(mixture(likelihood[:-1] - likelihood[-1]))
    return found[0], found[1]


def ratio(intervals: Floats) -> float | None:
    """The rate ratio over intervals [k, 4] as strata (Mantel and Haenszel 1959); None if undefined."""
    e1, n1, e0, n0 = intervals[intervals[:, 1] + intervals[:, 3] > 0].T
    ours, theirs = (e1 * n0 / (n1 + n0)).sum(), (e0 * n1 / (n1 + n0)).sum()
    return float(ours / theirs) if theirs > 0 else None


def confidence(intervals: Floats, alpha: float) -> tuple[float, float]:
    """Ends of the confidence sequence of the rate ratio, 1 - alpha over all polls; within 1/16 to 16."""
    grid = np.geomspace(1 / 16, 16, 201)
    likelihood = ratio_likelihood(grid, intervals)
    weight = np.exp(-0.5 * np.log(grid) ** 2)
    prior = np.log(weight / weight.sum())
    kept = grid[np.logaddexp.reduce(likelihood + prior) - likelihood < log(1 / alpha)]
    return float(kept.min()), float(kept.max())


def over_dispersion(intervals: ArrayLike, alpha: float = 0.1) -> float:
    """How much more bad events vary than a Poisson's: phi, at least 1, at its 1 - alpha upper bound.

    `intervals` is [k, 4] of an A/A run: champion against champion, with the split that the canary will have.
    Mean Pearson chi-square per interval (McCullagh and Nelder, Generalized Linear Models, 4.5).
    """
    from scipy.special import chdtri

    counts = np.asarray(intervals, dtype=np.float64)
    counts = counts[(counts[:, 0] + counts[:, 2] > 0) & (counts[:, 1] > 0) & (counts[:, 3] > 0)]
    if not len(counts):
        raise Unusable("an A/A run without one bad event tells nothing of their spread")
    e1, n1, e0, n0 = counts.T
    share = n1 / (n1 + n0)
    events = e1 + e0
    chi_square = ((e1 - events * share) ** 2 / (events * share * (1 - share))).sum()
    return max(1.0, float(chi_square / chdtri(len(counts), 1 - alpha)))


def _intervals(readings: Sequence[Measurement], compared: bool) -> Floats:
    arms = ("e1", "n1", "e0", "n0") if compared else ("e1", "n1")
    counts = np.zeros((len(readings), 4))
    for place, arm in enumerate(arms):
        counts[:, place] = np.fromiter((count(reading, arm) for reading in readings), float, len(readings))
    return counts


def _refuse_unfair_split(readings: Sequence[Measurement]) -> None:
    split = ("n1", "n0", "share")
    numbers = (
        reading.counts[name]
        for reading in readings
        if reading.counts is not None and 0 < reading.counts.get("share", 0) < 1
        for name in split
    )
    planned = np.fromiter(numbers, float).reshape(-1, len(split))
    if not len(planned):
        return
    evidence = mismatch(planned)
    if evidence >= -log(UNFAIR):
        n1, n0, _ = planned.sum(axis=0)
        expected = ((planned[:, 0] + planned[:, 1]) * planned[:, 2]).sum()
        raise Unusable(
            f"the candidate got {n1:,.0f} of {n1 + n0:,.0f} requests where "
            f"{expected:,.0f} were planned, and the evidence is {odds(evidence)} that the split is another"
        )


def _name(reading: Measurement) -> str:
    return f"{words.name(reading.metric)}{f' of {reading.slice}' if reading.slice else ''}"


def _share(bad: float, n: float) -> str:
    return words.amount(bad / n, "share")


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    limit = f" or below {words.amount(metric.limit, 'share')}" if metric.limit is not None else ""
    times = "" if metric.harm == 1 else f"{metric.harm:g} times "
    return (
        f"passes when its rate is proven within {metric.margin:g} times the champion's"
        f"{limit}, fails when it is proven above {times}the champion's"
    )


RULE = Rule(
    "rate_ratio",
    judge,
    in_words,
    needs=frozenset({"baseline", "margin"}),
    takes=frozenset({"limit", "harm", "over_dispersion", "matured_after"}),
    live=True,
    alone=True,
)
