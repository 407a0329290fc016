"""Sample-ratio mismatch: did the candidate get the share of requests that was planned?

No rule of a policy but a condition of every live comparison: a broken split makes the comparison an Error,
not a failure of the candidate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sevenfold.gates.rules.evidence import CHUNK, mixture

FACTORS = np.concatenate([np.exp(sign * np.geomspace(0.002, 1.5, 20)) for sign in (-1, 1)])
"""Alternatives: the odds of going to the challenger are off by such a factor, from 0.2 % to 4.5 times."""


def mismatch(intervals: NDArray[np.float64]) -> float:
    """Log evidence that the split differs from the plan; `intervals` is [k, 3]: n1, n0, planned share.

    Anytime-valid, as the Dirichlet-multinomial test of Lindon and Malek 2022 ("Anytime-valid inference for
    multinomial count data"), with a grid of odds factors so that the planned share may change.
    """
    likelihood = np.zeros(len(FACTORS))
    for start in range(0, len(intervals), CHUNK):
        n1, n0, share = intervals[start : start + CHUNK].T
        # A request's likelihood ratio is factor / normaliser in the challenger's arm, else 1 / normaliser.
        normaliser = np.log1p(share[:, None] * (FACTORS - 1))
        likelihood += (n1[:, None] * np.log(FACTORS) - (n1 + n0)[:, None] * normaliser).sum(axis=0)
    return mixture(likelihood)
