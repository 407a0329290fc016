"""What the absolute rules share: a value inside two limits, proven by bounds and not by a point."""

from __future__ import annotations

from sevenfold.gates.rules import bounds, words
from sevenfold.gates.rules.rule import Case, Outcome, Unusable, decide


def inside(case: Case, lowest: float, highest: float, asked: str) -> Outcome:
    """Passes when both bounds lie inside, fails when the whole interval lies outside on one side."""
    metric, reading = case.metric, case.reading
    value = reading.value
    if value is None:
        raise Unusable("there is no value")
    fact = f"{words.subject(reading)} is {words.amount(value, metric.unit)}"
    if metric.deterministic:
        passed = lowest <= value <= highest
        return Outcome(decide(passed, not passed), f"{fact}, {asked}", value, reading.n)
    goodness = metric.direction == "higher"
    low, high = bounds.of_reading(reading, case.alpha_pass, share_of_good=goodness)
    sure_low, sure_high = bounds.of_reading(reading, case.alpha_fail, share_of_good=goodness)
    passed = lowest <= low and high <= highest
    failed = sure_high < lowest or sure_low > highest
    shown = words.interval(low, high, metric.unit, case.alpha_pass)
    return Outcome(
        decide(passed, failed), f"{fact} ({shown} from {reading.n:,}), {asked}", value, reading.n, low, high
    )
