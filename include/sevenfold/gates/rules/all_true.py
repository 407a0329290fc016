"""all_true: a deterministic contract; not one violation is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sevenfold.gates.rules import words
from sevenfold.gates.rules.rule import Case, Outcome, Rule, Unusable, decide

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


def judge(case: Case) -> Outcome:
    """Passes when there are no violations, fails at the first.

    Needs: value, the number of violations, and n, the number of things checked. Assumes nothing.
    """
    violations, checked = case.reading.value, case.reading.n
    if violations is None or violations < 0 or violations != int(violations):
        raise Unusable(f"the number of violations is {violations}")
    if violations > checked:
        raise Unusable(f"{violations:,.0f} violations were found in {checked:,} checks")
    unit = case.reading.unit or "checks"
    count = "counts" if violations == 1 else "count"
    finding = (
        f"{words.subject(case.reading)}: {violations:,.0f} of {checked:,} {unit} {count} against it, none may"
    )
    return Outcome(decide(violations == 0, violations > 0), finding, violations, checked)


def in_words(metric: Metric) -> str:
    """What passes and what fails."""
    return "passes when nothing is violated, fails at the first violation"


RULE = Rule("all_true", judge, in_words, statistical=False)
