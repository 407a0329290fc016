"""at_most: a value stays at or below an absolute limit."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sevenfold.gates.rules import words
from sevenfold.gates.rules.limits import inside
from sevenfold.gates.rules.rule import Case, Outcome, Rule

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when the upper bound is within the limit, fails when the lower bound is above it.

    Needs: value with low and high (two-sided 95 %), or counts {bad, n} for a share of bad ones (exact,
    Clopper and Pearson 1934), or counts {se, clusters?} for a mean. `deterministic` metrics need the value
    only.
    Assumes: the interval respects how rows hang together (whole days, whole runs).
    """
    limit = case.metric.limit or 0.0
    return inside(case, -inf, limit, f"at most {words.amount(limit, case.metric.unit)} is asked")


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    limit = words.amount(metric.limit or 0.0, metric.unit)
    if metric.deterministic:
        return f"passes at {limit} or less, fails above"
    return f"passes when its upper bound is {limit} or less, fails when its lower bound is above {limit}"


RULE = Rule(
    "at_most", judge, in_words, needs=frozenset({"limit"}), takes=frozenset({"deterministic", "warn"})
)
