"""Evidence that may be looked at after every poll: mixtures of likelihood ratios.

An e-process starts at 1, and while its null hypothesis is true the probability that it ever reaches 1 / alpha
is at most alpha, over all looks together (Ville 1939; Ramdas, Gruenwald, Vovk and Shafer 2023,
"Game-theoretic statistics and safe anytime-valid inference"). It is read as odds: "the evidence is 34 to 1".
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRID = 40
CHUNK = 1000
"""Intervals taken at a time, which bounds the memory of a rule however long it polls."""


def between(low: float, high: float, points: int = GRID) -> Floats:
    """Mid points of `points` equal steps from log(low) to log(high), as plain numbers."""
    return np.exp(np.linspace(log(low), log(high), 2 * points + 1)[1::2])


def mixture(log_likelihood_ratios: Floats) -> float:
    """Log of the mean of likelihood ratios [grid]: every alternative has the same weight."""
    return float(np.logaddexp.reduce(log_likelihood_ratios) - log(len(log_likelihood_ratios)))


def ratio_likelihood(ratios: Floats, intervals: Floats) -> Floats:
    """[grid] log likelihood of rate ratios given intervals [k, 4] of e1, n1, e0, n0.

    Given the bad events of an interval and the share w of its requests that went to the challenger, each is
    the challenger's with probability w r / (w r + 1 - w). The champion's own rate cancels, so waves and
    outages that hit both arms do no harm, and the split may change between intervals.
    """
    likelihood = np.zeros(len(ratios))
    both = intervals[(intervals[:, 1] > 0) & (intervals[:, 3] > 0)]  # an arm that is alone compares nothing
    for start in range(0, len(both), CHUNK):
        e1, n1, e0, n0 = both[start : start + CHUNK].T
        odds = (n1 / n0)[:, None] * ratios
        likelihood += (e1[:, None] * np.log(odds) - (e1 + e0)[:, None] * np.log1p(odds)).sum(axis=0)
    return likelihood


def share_likelihood(shares: Floats, bad: float, n: float) -> Floats:
    """[grid] log likelihood of shares given `bad` of `n`."""
    return np.asarray(bad * np.log(shares) + (n - bad) * np.log1p(-shares))


def odds(log_evidence: float) -> str:
    """Evidence in words: '34 to 1', or 'less than even' below one."""
    if log_evidence < 0:
        return "less than even"
    if log_evidence > log(1e6):
        return "more than 1,000,000 to 1"
    evidence = exp(log_evidence)
    return f"{evidence:,.0f} to 1" if evidence >= 10 else f"{evidence:.1f} to 1"
