"""Simulated canaries: promote, roll back, hold and time to decision of our rule and of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from tests.benchmarks.gates import rivals
from tests.benchmarks.gates.rivals import PROMOTE, ROLL_BACK, Decisions, Rule, Traffic

from sevenfold.gates.rules.evidence import between
from sevenfold.gates.rules.rate_ratio import REACH

SEED = 20130101
BASE_RATE = 0.01
MARGIN = 1.5
ALPHA = 0.05
CHUNK = 100
"""Runs simulated at a time: bounds the memory."""


@dataclass(frozen=True)
class World:
    """Traffic of a canary: requests a poll of each arm, and what else may happen to them."""

    name: str
    polls: int
    challenger: int
    champion: int
    outage: bool = False
    burst: float = 0.0

    def traffic(self, factor: float, runs: int, random: np.random.Generator) -> Traffic:
        """Counts of `runs` canaries whose challenger has `factor` times the champion's rate.

        An outage makes two intervals five times worse for both arms. A burst spreads the rate of each arm and
        interval on its own, by a gamma with this coefficient of variation.
        """
        shape = (runs, self.polls)
        shared = np.ones(shape)
        if self.outage:
            for _ in range(2):
                shared[np.arange(runs), random.integers(self.polls, size=runs)] = 5.0
        arms = []
        for requests, times in ((self.challenger, factor), (self.champion, 1.0)):
            own = random.gamma(1 / self.burst**2, self.burst**2, shape) if self.burst else 1.0
            bad = random.binomial(requests, np.minimum(1.0, BASE_RATE * times * shared * own))
            arms += [bad.astype(float), np.full(shape, float(requests))]
        return Traffic(*arms)


WORLDS = (
    World("20 polls, 10k against 10k", 20, 500, 500),
    World("20 polls, 10k against 90k", 20, 500, 4500),
    World("200 polls, 10k against 90k", 200, 50, 450),
    World("20 polls, 10k against 90k, an outage of both arms", 20, 500, 4500, outage=True),
    World("200 polls, 10k against 90k, an outage of both arms", 200, 50, 450, outage=True),
    World("20 polls, 10k against 90k, bursts of single arms (cv 0.3)", 20, 500, 4500, burst=0.3),
    World("200 polls, 10k against 90k, bursts of single arms (cv 0.3)", 200, 50, 450, burst=0.3),
)
FACTORS = (1.0, 1.5, 2.0)
FREQUENCIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""How often the same 10k requests against 90k are looked at."""


def ours(phi: float = 1.0) -> Rule:
    """The rate_ratio rule, looked at after every poll; `phi` is the over-dispersion of an A/A run."""

    def decide(t: Traffic) -> Decisions:
        good, bad = log_evidence(t, phi)
        # What is proven within the margin passes, even if proven worse at the same poll (rules.rule.decide).
        passed, failed = good >= -log(ALPHA), bad >= -log(ALPHA)
        return rivals.first(passed, failed & ~passed)

    return decide


def log_evidence(t: Traffic, phi: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[runs, polls] log evidence for passing and failing, after each poll; the rule's own, vectorised.

    A test holds it equal to sevenfold.gates.rules.rate_ratio.log_evidence.
    """
    odds = (t.n1 / t.n0)[..., None]
    e1, e0 = t.e1[..., None] / phi, t.e0[..., None] / phi
    found = []
    for low, high, null in ((1 / MARGIN, MARGIN, MARGIN), (1.0, REACH, 1.0)):
        ratios = np.append(between(low, high), null)
        step = e1 * np.log(odds * ratios) - (e1 + e0) * np.log1p(odds * ratios)
        likelihood = np.cumsum(step, axis=1)
        found.append(logsumexp(likelihood[..., :-1] - likelihood[..., -1:], axis=-1) - log(len(ratios) - 1))
    return found[0], found[1]


def over_dispersion(world: World, random: np.random.Generator) -> float:
    """phi of an A/A run of 60 intervals in the same world, measured before the first canary."""
    from sevenfold.gates.rules import rate_ratio

    intervals = World(world.name, 60, world.challenger, world.champion, world.outage, world.burst)
    t = intervals.traffic(1.0, 1, random)
    return rate_ratio.over_dispersion(np.stack([t.e1[0], t.n1[0], t.e0[0], t.n0[0]], axis=1))


def rules(world: World) -> Mapping[str, Rule]:
    """All rules that are compared, by name; ours first."""
    polls, success = world.polls, 0.985
    return {
        "ours": ours(),
        "naive: interval above 1.5x": rivals.interval_threshold(MARGIN),
        "naive: sum so far above 1.5x": rivals.cumulative_threshold(MARGIN),
        "Flagger 98.5 %, threshold 1": rivals.flagger(success, 1, polls),
        "Flagger 98.5 %, threshold 5, 10 steps": rivals.flagger(success, 5, 10),
        "Argo 98.5 %, failureLimit 0": rivals.argo(success, 0),
        "Argo 98.5 %, failureLimit 3": rivals.argo(success, 3),
        "Kayenta, once at the end": rivals.kayenta(None),
        "Kayenta, from the 5th poll": rivals.kayenta(5, every=max(1, polls // 20)),
        "z-test of harm at every poll": rivals.repeated_z,
        "z-tests of both at every poll": rivals.repeated_non_inferiority(MARGIN),
    }


@dataclass(frozen=True)
class Row:
    """Shares of runs that a rule promoted and rolled back, and the median poll of its decisions (from 1)."""

    world: World
    rule: str
    factor: float
    promoted: float
    rolled_back: float
    poll: float

    @property
    def held(self) -> float:
        return max(0.0, 1 - self.promoted - self.rolled_back)


def simulate(world: World, runs: int) -> Iterator[Row]:
    """Every rule on every kind of challenger; all rules see the same traffic."""
    for factor in FACTORS:
        # Which world and which challenger fix the traffic, whatever else is simulated.
        random = np.random.default_rng([SEED, WORLDS.index(world), int(factor * 10)])
        compared = dict(rules(world))
        found: dict[str, list[Decisions]] = {name: [] for name in compared}
        found["ours, phi of an A/A run"] = []
        for start in range(0, runs, CHUNK):
            size = min(CHUNK, runs - start)
            traffic = world.traffic(factor, size, random)
            for name, rule in compared.items():
                small = name.startswith("Kayenta") and world.polls > 50
                part = _head(traffic, max(1, size // 10)) if small else traffic
                found[name].append(rule(part))
            found["ours, phi of an A/A run"].append(ours(over_dispersion(world, random))(traffic))
        for name, decisions in found.items():
            yield _row(world, name, factor, decisions)


def at_every_frequency(runs: int) -> Iterator[Row]:
    """Our rule on the same traffic, looked at more and more often."""
    for polls in FREQUENCIES:
        world = World(f"{polls:,} polls", polls, 10_000 // polls, 90_000 // polls)
        for factor in FACTORS:
            random = np.random.default_rng([SEED, polls, int(factor * 10)])
            sizes = [min(CHUNK, runs - start) for start in range(0, runs, CHUNK)]
            decisions = [ours()(world.traffic(factor, size, random)) for size in sizes]
            yield _row(world, "ours", factor, decisions)


def _head(t: Traffic, runs: int) -> Traffic:
    """The first runs only: Kayenta compares all pairs of polls, 40,000 of them in each of 200 looks."""
    return Traffic(t.e1[:runs], t.n1[:runs], t.e0[:runs], t.n0[:runs])


def _row(world: World, name: str, factor: float, decisions: list[Decisions]) -> Row:
    verdict = np.concatenate([decision.verdict for decision in decisions])
    poll = np.concatenate([decision.poll for decision in decisions])
    decided = poll[verdict != 0]
    return Row(
        world,
        name,
        factor,
        float(np.mean(verdict == PROMOTE)),
        float(np.mean(verdict == ROLL_BACK)),
        float(np.median(decided)) + 1 if len(decided) else float("nan"),
    )
