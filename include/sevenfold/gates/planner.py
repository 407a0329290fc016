"""What a gate will do, told before it does it: a walk-through in plain words, and the traffic a canary needs.

`python -m sevenfold.gates.planner include/models/flight_delay/gates/production.yaml` prints it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from math import ceil, log
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from sevenfold.gates.analysis import rejecting
from sevenfold.gates.policy import Metric, Policy, load_policy
from sevenfold.gates.rules import RULES, binomial, words
from sevenfold.gates.rules.evidence import between
from sevenfold.gates.rules.rate_ratio import REACH
from sevenfold.gates.rules.spending import spend

BASE_RATES = (0.001, 0.01, 0.05)
RUNS = 400
SEED = 20130101
LOOKS = np.geomspace(1, 20_000, 120)
"""Expected bad events of the canary at which a simulated gate is looked at."""


@dataclass(frozen=True)
class Plan:
    """What a canary of a rate_ratio gate needs, for one base rate and one share of the traffic.

    `to_pass_even` and `to_pass_likely` are canary requests for a 50 % and a 90 % chance to pass when the
    challenger is equal, `bad_events` its bad events then, `to_fail_double` those for a 90 % chance to roll
    back a challenger with twice the rate. None: more than the plan looks at.
    """

    base_rate: float
    share: float
    to_pass_even: int | None
    to_pass_likely: int | None
    bad_events: int | None
    to_fail_double: int | None


def plan(metric: Metric, base_rate: float, share: float, alpha_pass: float, alpha_fail: float) -> Plan:
    """The traffic that a canary needs, by simulating the gate's own rule.

    Args:
        metric: a rate_ratio metric.
        base_rate: the champion's rate of bad events, 0 to 1.
        share: the canary's share of all requests, 0 to 1.
        alpha_pass: risk of passing at the margin.
        alpha_fail: risk of failing an equal challenger.
    """
    margin, phi = metric.margin or 1.0, metric.over_dispersion
    passing = (1 / margin, margin, margin)
    failing = (metric.harm, metric.harm * REACH, metric.harm)
    even = _events(passing, share, 1.0, alpha_pass, 0.5)
    likely = _events(passing, share, 1.0, alpha_pass, 0.9)
    double = _events(failing, share, 2.0, alpha_fail, 0.9)

    def requests(events: float | None) -> int | None:
        return None if events is None else _rounded(events * phi / base_rate)

    return Plan(
        base_rate=base_rate,
        share=share,
        to_pass_even=requests(even),
        to_pass_likely=requests(likely),
        bad_events=None if likely is None else _rounded(likely * phi),
        to_fail_double=requests(None if double is None else double / 2),
    )


@lru_cache(maxsize=256)
def _events(
    test: tuple[float, float, float], share: float, ratio: float, alpha: float, chance: float
) -> float | None:
    """Bad events of the canary after which the evidence has reached 1 / alpha with this chance.

    `test` is the range of alternatives and the null. The base rate is small, so events are Poisson's, and
    only their number matters.
    """
    low, high, null = test
    ratios = np.append(between(low, high), null)
    random = np.random.default_rng(SEED)
    steps = np.diff(LOOKS, prepend=0)
    ours = random.poisson(steps, (RUNS, len(LOOKS))).cumsum(axis=1)[..., None]
    theirs = random.poisson(steps * (1 - share) / share / ratio, (RUNS, len(LOOKS))).cumsum(axis=1)[..., None]
    odds = share / (1 - share) * ratios
    likelihood = ours * np.log(odds) - (ours + theirs) * np.log1p(odds)
    evidence = logsumexp(likelihood[..., :-1] - likelihood[..., -1:], axis=-1) - log(len(ratios) - 1)
    reached = np.maximum.accumulate(evidence >= -log(alpha), axis=1).mean(axis=0)
    if reached[-1] < chance:
        return None
    return float(LOOKS[int(np.argmax(reached >= chance))])


def least_requests(metric: Metric, alpha: float) -> int | None:
    """The fewest requests or rows, not one of them bad, that can prove an absolute limit on a share."""
    if metric.limit is None or metric.unit != "share" or not 0 < metric.limit < 1:
        return None
    if metric.rule not in ("at_most", "at_least", "binomial", "rate_ratio"):
        return None
    if metric.rule == "at_most":
        return ceil(log(alpha) / log(1 - metric.limit))
    if metric.rule == "at_least":
        return ceil(log(alpha) / log(metric.limit))
    ways = 2 if metric.rule == "rate_ratio" else 1
    n = 1.0
    while binomial.log_evidence(0, n, metric.limit)[0] < log(ways / alpha):
        n *= 1.01
        if n > 1e9:
            return None
    return ceil(n * metric.over_dispersion)


def walk_through(policy: Policy, base_rates: Sequence[float] = BASE_RATES, share: float = 0.1) -> str:
    """A gate as an ordered list in plain words, with its numbers."""
    rivals = rejecting(policy)
    lines = [
        f"Gate of {policy.model} in {policy.environment}",
        policy.description,
        "",
        f"It passes when all {len(policy.metrics)} metrics pass, and fails when one fails. Otherwise the "
        "champion stays: what is unproven waits for more data or a person, what is missing or broken is "
        "measured again.",
        *_steps(policy),
        _soonest(policy),
    ]
    for number, metric in enumerate(policy.metrics, start=1):
        lines += [
            "",
            f"{number}. {_title(metric)}: {metric.meaning}",
        ]
        lines += [f"   - {line}" for line in _details(metric, rivals)]
        if metric.rule == "rate_ratio":
            lines += [f"   - {line}" for line in _traffic(metric, base_rates, share, rivals)]
    lines += _not_asked(policy)
    return "\n".join(lines) + "\n"


def _not_asked(policy: Policy) -> Iterator[str]:
    """What is measured and decides nothing."""
    if policy.not_asked:
        yield from ("", "Measured for people to look at, and not asked:")
    for entry in policy.not_asked:
        said = ", ".join(words.name(name) for name in entry.metrics)
        yield f"   - {said} of {entry.activity}: {entry.why}"


def _steps(policy: Policy) -> Iterator[str]:
    """How a canary grows, where the gate says so."""
    if not policy.steps:
        return
    said = [
        f"{_percent(step.share)} for at least {words.duration(step.bake)} and {step.requests:,} "
        f"{'request' if step.requests == 1 else 'requests'}, undecided after {words.duration(step.deadline)}"
        for step in policy.steps
    ]
    yield "The candidate's share of the live requests grows in steps: " + "; then ".join(said) + "."


def _soonest(policy: Policy) -> str:
    """How long the gate takes at the least, beside the activities that measure."""
    waits = [
        (metric.interval or timedelta(0)) * metric.count + (metric.matured_after or timedelta(0))
        for metric in policy.metrics
        if metric.polled and metric.dry_run is None
    ]
    longest = max([sum((step.bake for step in policy.steps), timedelta(0)), *waits])
    if not longest:
        return "It takes no time of its own: it judges when everything is measured."
    late = any(metric.matured_after for metric in policy.metrics)
    clock = ", on the model's clock, for labels have to become final" if late else ""
    return f"It takes {words.duration(longest)} at the least{clock}."


def _title(metric: Metric) -> str:
    against = f" against the {metric.baseline}" if metric.baseline != "none" else ""
    return f"{_capital(words.name(metric.metric, metric.unit))} of {metric.activity}{against}"


def _details(metric: Metric, rivals: int) -> Iterator[str]:
    rule = RULES[metric.rule]
    yield _capital(rule.in_words(metric)) + "."
    if metric.baseline != "none":
        alone = " but for its absolute limit" if rule.alone and metric.limit is not None else ""
        yield f"Without {_a(metric.baseline)} nothing is compared, and it passes{alone}."
    if metric.warn is not None:
        marks = metric.warn if isinstance(metric.warn, tuple) else (metric.warn,)
        yield f"Warns beyond {' to '.join(words.amount(mark, metric.unit) for mark in marks)}."
    groups = len(metric.slices) if isinstance(metric.slices, tuple) else 1
    if rule.statistical and not metric.deterministic:
        fail = metric.alpha / rivals / groups
        among = f" and {groups} groups" if groups > 1 else ""
        yield (
            f"Risk of passing what is beyond the limit: {_percent(metric.alpha)}; of failing what is fine: "
            f"{_percent(fail)} (divided among {rivals} metrics{among})."
        )
    if metric.max_uses is not None:
        first, last = spend(metric.alpha, 1), spend(metric.alpha, metric.max_uses)
        yield (
            f"Its test set may be used {metric.max_uses} times; the risk is {_percent(first)} at the first "
            f"use and {_percent(last)} at the last."
        )
    if metric.min_sample > 1:
        yield f"Below {metric.min_sample:,} nothing passes."
    least = least_requests(metric, metric.alpha)
    if least is not None and least > metric.min_sample:
        yield f"Takes at least {least:,} without a bad one to prove its limit."
    if metric.slices is not None:
        which = "every slice measured" if metric.slices == "every" else ", ".join(metric.slices)
        smallest = f"{metric.min_slice_size:,}"
        small = f"; slices below {smallest} are shown and do not decide" if metric.min_slice_size > 1 else ""
        yield f"Asked of {which}{small}."
    yield from _timing(metric)
    if not metric.critical:
        yield "Not critical: a failure asks a person instead of rejecting."
    if metric.dry_run is not None:
        yield f"Dry run until {metric.dry_run.until}: shown, without a say; an Error after that day."


def _timing(metric: Metric) -> Iterator[str]:
    if metric.interval is not None:
        soonest = words.duration(metric.interval * metric.count)
        every = words.duration(metric.interval)
        yield f"Looked at every {every}; it may fail at any look and pass after {soonest}."
    if metric.matured_after is not None:
        yield f"An interval counts {words.duration(metric.matured_after)} after its end, with final labels."
    if metric.error_limit:
        yield f"Unusable intervals that are tolerated, left out and named: {metric.error_limit}."
    if metric.deadline is not None:
        yield f"Undecided {words.duration(metric.deadline)} after the first reading, a person decides."


def _traffic(metric: Metric, base_rates: Sequence[float], share: float, rivals: int) -> Iterator[str]:
    ways = 1 if metric.limit is None else 2
    for base_rate in base_rates:
        found = plan(metric, base_rate, share, metric.alpha / ways, metric.alpha / rivals)
        yield (
            f"At a champion's rate of {_percent(base_rate)} and {_percent(share)} of the traffic an equal "
            f"candidate needs {_count(found.to_pass_even)} requests for an even chance to pass, "
            f"and {_count(found.to_pass_likely)} ({_count(found.bad_events)} bad ones) for 90 %; one twice "
            f"as bad is rolled back within {_count(found.to_fail_double)}."
        )


def _count(number: int | None) -> str:
    return "far too many" if number is None else f"{number:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _rounded(number: float) -> int:
    """Two significant digits, upwards: a plan is no measurement."""
    step: int = 10 ** max(0, len(str(int(number))) - 2)
    return ceil(number / step) * step


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the walk-through of a gate file."""
    parser = argparse.ArgumentParser(prog="python -m sevenfold.gates.planner", description=main.__doc__)
    parser.add_argument("file", type=Path, help="a gate file")
    parser.add_argument("--base-rate", type=float, action="append", help="the champion's rate of bad events")
    parser.add_argument("--share", type=float, default=0.1, help="the canary's share of the traffic")
    given = parser.parse_args(arguments)
    print(walk_through(load_policy(given.file), given.base_rate or BASE_RATES, given.share), end="")


if __name__ == "__main__":
    main()
