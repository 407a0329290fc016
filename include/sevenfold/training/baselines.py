"""What a network has to beat: the constant, a linear model and gradient boosting, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.measures.evaluation import Floats
from sevenfold.model.tasks import Task
from sevenfold.training import Examples

Fit = Callable[[Examples, Examples, list[int], int], Callable[[Examples], Floats]]

MOST_CODES = 255
"""Categories that gradient boosting can take; a column with more is given to it as a number."""


def baselines(task: Task) -> dict[str, Fit]:
    """By name, from the simplest to the one that is hardest to beat."""
    return {"constant": constant, task.linear: linear, "gradient_boosting": gradient_boosting}


def constant(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Floats]:
    """Everybody gets what suits the training rows best."""
    one = examples.task.constant(examples.label)
    return lambda rows: np.broadcast_to(one, (len(rows), *one.shape)).copy()


def linear(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Floats]:
    """Standardised numbers with an indicator for each gap, and one column for each category."""
    from scipy import sparse

    values = np.ma.masked_invalid(examples.numeric.astype(np.float64))
    known = ~np.ma.getmaskarray(values).all(axis=0)  # a column without a value has nothing to teach
    mean, spread = (np.ma.filled(of(axis=0), 0.0) for of in (values.mean, values.std))
    spread = spread + 1e-6

    def design(rows: Examples) -> Any:
        missing = np.isnan(rows.numeric)
        scaled = np.where(missing | ~known, 0, np.clip((rows.numeric - mean) / spread, -6, 6))
        offsets = np.concatenate([[0], np.cumsum(cardinalities)])
        columns = rows.categorical + offsets[:-1]
        shape = (len(rows), int(offsets[-1]))
        ones = np.ones(columns.size)
        places = (np.repeat(np.arange(len(rows)), columns.shape[1]), columns.ravel())
        numbers = sparse.csr_matrix(np.hstack([scaled, missing & known]))
        return sparse.hstack([numbers, sparse.csr_matrix((ones, places), shape)]).tocsr()

    predict = examples.task.fit_linear(design(examples), examples.label)
    return lambda rows: predict(design(rows))


def gradient_boosting(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Floats]:
    """Histogram gradient boosting; as for the network, the stopping rows say when it has learned enough."""
    few = [codes <= MOST_CODES for codes in cardinalities]

    def design(rows: Examples) -> NDArray[np.float64]:
        return np.hstack([rows.numeric, rows.categorical]).astype(np.float64)

    settings = {
        "learning_rate": 0.1,
        "max_iter": 150,
        "early_stopping": True,
        "n_iter_no_change": 10,
        "categorical_features": [False] * examples.numeric.shape[1] + few,
        "random_state": seed,
    }
    predict = examples.task.fit_boosting(
        settings, design(examples), examples.label, design(stopping), stopping.label
    )
    return lambda rows: predict(design(rows))
