"""binomial: a live share against an absolute limit, looked at after every interval."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from sevenfold.gates.rules import words
from sevenfold.gates.rules.evidence import between, mixture, odds, share_likelihood
from sevenfold.gates.rules.rule import Case, Outcome, Rule, decide, total
from sevenfold.gates.verdict import Verdict

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric

REACH = 8.0
"""Alternatives reach from the limit's odds to this many times less, or more."""
POINTS = 60


def judge(case: Case) -> Outcome:
    """Passes when the share is proven below the limit, fails when it is proven above.

    With a baseline it counts disagreements with that one, and there is nothing to count when there is none.

    Needs: counts {bad, n}, of one reading or per interval.
    Assumes: independent trials, or over_dispersion times their spread. Error at most alpha over all polls.
    Source: Robbins 1970, mixture of binomial likelihood ratios; research/gates-and-faults.md, 1.2.
    """
    return against_limit(case, total(case.readings, "bad"), total(case.readings, "n"))


def against_limit(case: Case, bad: float, n: float) -> Outcome:
    """Judges `bad` of `n` against the metric's limit."""
    reading, limit = case.readings[0], case.metric.limit or 0.0
    name = words.subject(reading) if len(case.readings) == 1 else words.name(reading.metric)
    if n == 0:
        return Outcome(Verdict.INCONCLUSIVE, f"{name}: nothing has been counted yet")
    below, above = log_evidence(bad / case.phi, n / case.phi, limit)
    verdict = decide(below >= -log(case.alpha_pass), above >= -log(case.alpha_fail))
    side, evidence, alpha = (
        ("above", above, case.alpha_fail) if verdict is Verdict.FAILED else ("below", below, case.alpha_pass)
    )
    finding = (
        f"{name} at {words.amount(bad / n, 'share')} of {n:,.0f}; the evidence is {odds(evidence)} "
        f"that it is {side} {words.amount(limit, 'share')}; {odds(-log(alpha))} is asked"
    )
    return Outcome(verdict, finding, bad / n, int(n))


def log_evidence(bad: float, n: float, limit: float) -> tuple[float, float]:
    """Log evidence that the share is below `limit`, and that it is above it."""
    at = limit / (1 - limit)
    found = []
    for odds_of in (between(at / REACH, at, POINTS), between(at, at * REACH, POINTS)):
        likelihood = share_likelihood(np.append(odds_of / (1 + odds_of), limit), bad, n)
        found.append(mixture(likelihood[:-1] - likelihood[-1]))
    return found[0], found[1]


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    limit = words.amount(metric.limit or 0.0, "share")
    return f"passes when its share is proven below {limit}, fails when it is proven above"


RULE = Rule(
    "binomial",
    judge,
    in_words,
    needs=frozenset({"limit"}),
    takes=frozenset({"baseline", "over_dispersion", "matured_after"}),
    live=True,
)
