"""What a rule is given, what it answers, and how it is described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sevenfold.gates.measurement import Measurement
from sevenfold.gates.verdict import Verdict

if TYPE_CHECKING:
    from sevenfold.gates.policy import Metric


class Unusable(Exception):
    """A reading that says nothing; the message is the fact, without its consequence. Judged as Error."""


@dataclass(frozen=True)
class Case:
    """One metric of one slice, ready to be judged.

    `readings` are checked: finite, of this candidate, fresh, without duplicates; one of them unless the rule
    is live. `alpha_pass` is the risk of passing what is beyond the limit, `alpha_fail` that of failing what
    is fine; the analysis has divided the first by the uses of a test set and the second by the number of
    metrics. `compared` is False when the model has no champion.
    """

    metric: Metric
    readings: Sequence[Measurement]
    alpha_pass: float
    alpha_fail: float
    compared: bool = True

    @property
    def reading(self) -> Measurement:
        """The only reading of a rule that is decided once."""
        (reading,) = self.readings
        return reading

    @property
    def phi(self) -> float:
        """How much more events vary than independent ones: the policy's, or more if an A/A run said so."""
        measured = ((reading.counts or {}).get("phi", 1.0) for reading in self.readings)
        return max(self.metric.over_dispersion, *measured)


@dataclass(frozen=True)
class Outcome:
    """What a rule found: a verdict and its `finding`, fact and rule in words, without the consequence."""

    verdict: Verdict
    finding: str
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rule:
    """One way to judge a metric.

    `needs` are the policy keys that it cannot do without, `takes` those that also mean something to it.
    `live` rules are anytime-valid: they may be looked at after every interval, for ever, at no cost in error.
    `alone` ones still hold a candidate to their absolute limit when there is no champion to compare with.
    `statistical` ones can fail by bad luck, so their risk of failing is divided among a gate's metrics.
    """

    name: str
    judge: Callable[[Case], Outcome]
    in_words: Callable[[Metric], str]
    needs: frozenset[str] = field(default_factory=frozenset)
    takes: frozenset[str] = field(default_factory=frozenset)
    live: bool = False
    alone: bool = False
    statistical: bool = True


def decide(passed: bool, failed: bool) -> Verdict:
    """Passing wins: what is proven to lie within the margin is good enough, even if proven a little worse."""
    if passed:
        return Verdict.SUCCESSFUL
    return Verdict.FAILED if failed else Verdict.INCONCLUSIVE


def count(reading: Measurement, name: str) -> float:
    """One of the reading's counts, or Unusable."""
    if reading.counts is None or name not in reading.counts:
        raise Unusable(f"the reading lacks the count '{name}'")
    return reading.counts[name]


def total(readings: Sequence[Measurement], name: str) -> float:
    """Sum of one count over all readings, or Unusable."""
    return sum(count(reading, name) for reading in readings)
