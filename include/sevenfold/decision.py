"""From a probability to a decision, wherever decisions are counted: disagreement, wrong labels, fairness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
"""The threshold at which a calibrated model makes the fewest wrong decisions."""


def decided(probability: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row is decided positive."""
    return np.asarray(probability) >= THRESHOLD
