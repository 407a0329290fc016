"""Canary rules of others, re-implemented to be compared with ours on the same simulated traffic.

Each takes counts [runs, polls] of bad events and requests of challenger and champion, and says of each run
what it decided and at which poll (from 0; the number of polls if it never did).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ROLL_BACK, HOLD, PROMOTE = -1, 0, 1


@dataclass(frozen=True)
class Traffic:
    """Bad events and requests per run and poll [runs, polls]: challenger (1) and champion (0)."""

    e1: Floats
    n1: Floats
    e0: Floats
    n0: Floats

    @property
    def polls(self) -> int:
        return int(self.e1.shape[1])


@dataclass(frozen=True)
class Decisions:
    """What a rule decided in each run, and at which poll."""

    verdict: NDArray[np.int64]
    poll: NDArray[np.int64]


Rule = Callable[[Traffic], Decisions]


def first(promoted: Bools, rolled_back: Bools) -> Decisions:
    """The first of two events [runs, polls] decides; rolling back wins a tie."""
    polls = promoted.shape[1]
    when_promoted = np.where(promoted.any(1), promoted.argmax(1), polls)
    when_rolled_back = np.where(rolled_back.any(1), rolled_back.argmax(1), polls)
    verdict = np.where(when_promoted < when_rolled_back, PROMOTE, ROLL_BACK)
    poll = np.minimum(when_promoted, when_rolled_back)
    return Decisions(np.where(poll == polls, HOLD, verdict), poll)


def unless(rolled_back: Bools) -> Decisions:
    """Promotes after the last poll unless something rolled it back before."""
    at_end = np.zeros_like(rolled_back)
    at_end[:, -1] = True
    return first(at_end & ~rolled_back[:, -1:], rolled_back)


def interval_threshold(factor: float) -> Rule:
    """Rolls back at the first interval whose rate is above `factor` times the champion's."""
    return lambda t: unless(t.e1 / t.n1 > factor * t.e0 / t.n0)


def cumulative_threshold(factor: float) -> Rule:
    """Rolls back as soon as the rate so far is above `factor` times the champion's."""
    return lambda t: unless(_sums(t.e1) / _sums(t.n1) > factor * _sums(t.e0) / _sums(t.n0))


def flagger(success: float, threshold: int, steps: int) -> Rule:
    """Flagger 15bd6ad5: a minimum success rate at each poll; failed checks add up to the threshold."""

    def decide(t: Traffic) -> Decisions:
        good = 1 - t.e1 / t.n1 >= success
        return first(_sums(good) >= steps, _sums(~good) >= threshold)

    return decide


def argo(success: float, failure_limit: int) -> Rule:
    """Argo Rollouts 9f8d111: a success condition per measurement, so many failures are tolerated."""
    return lambda t: unless(_sums(1 - t.e1 / t.n1 < success) > failure_limit)


def kayenta(from_poll: int | None, every: int = 1, tolerance: float = 0.25, confidence: float = 0.98) -> Rule:
    """Kayenta a69573be, NetflixACAJudge: Mann-Whitney on the rates of polls; None: once at the end."""

    def decide(t: Traffic) -> Decisions:
        ours, theirs, polls = t.e1 / t.n1, t.e0 / t.n0, t.polls
        bad = np.zeros(ours.shape, dtype=bool)
        z = ndtri(1 - (1 - confidence) / 2)
        for k in [polls] if from_poll is None else range(from_poll, polls + 1, every):
            differences = np.sort((ours[:, :k, None] - theirs[:, None, :k]).reshape(len(ours), -1), axis=1)
            rank = k * k / 2 - 0.5 - z * np.sqrt(k * k * (2 * k + 1) / 12)
            low = differences[:, max(0, int(np.floor(rank)))]
            shift = np.median(differences, axis=1)
            bad[:, k - 1] = low > tolerance * np.abs(shift)
        return unless(bad)

    return decide


def repeated_z(t: Traffic) -> Decisions:
    """A z-test for harm at 5 % after every poll; promotes at the end."""
    return unless(_z(t) > ndtri(0.95))


def repeated_non_inferiority(margin: float) -> Rule:
    """A z-test for non-inferiority and one for harm, both at 5 % after every poll."""
    return lambda t: first(_z(t, margin) < -ndtri(0.95), _z(t) > ndtri(0.95))


def _z(t: Traffic, ratio: float = 1.0) -> Floats:
    """z of the log rate ratio over `ratio`, of everything so far; above zero: worse."""
    e1, n1, e0, n0 = (_sums(counts) for counts in (t.e1, t.n1, t.e0, t.n0))
    log_ratio = np.log((e1 + 0.5) / n1) - np.log((e0 + 0.5) / n0) - np.log(ratio)
    return np.asarray(log_ratio / np.sqrt(1 / (e1 + 0.5) + 1 / (e0 + 0.5)))


def _sums(counts: NDArray[np.generic]) -> Floats:
    return np.asarray(np.cumsum(counts, axis=1), dtype=np.float64)
