"""within: a value stays between two absolute limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.gates.rules import words
from sevenfold.gates.rules.limits import inside
from sevenfold.gates.rules.rule import Case, Outcome, Rule

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when both bounds lie between the limits, fails when the whole interval lies outside on one side.

    Needs and assumes what at_most does.
    """
    lowest, highest = case.metric.within or (0.0, 0.0)
    return inside(case, lowest, highest, f"{_range(case.metric)} is asked")


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    if metric.deterministic:
        return f"passes at {_range(metric)}, fails outside"
    return f"passes when both its bounds lie in {_range(metric)}, fails when its interval lies outside"


def _range(metric: Metric) -> str:
    lowest, highest = metric.within or (0.0, 0.0)
    return f"{words.amount(lowest, metric.unit)} to {words.amount(highest, metric.unit)}"


RULE = Rule(
    "within", judge, in_words, needs=frozenset({"within"}), takes=frozenset({"deterministic", "warn"})
)
