"""What a network has to beat: the constant, logistic regression and gradient boosting, on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sevenfold.training import Examples

Probabilities = NDArray[np.float64]
Fit = Callable[[Examples, Examples, list[int], int], Callable[[Examples], Probabilities]]

MOST_CODES = 255
"""Categories that gradient boosting can take; a column with more is given to it as a number."""


def constant(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Probabilities]:
    """Everybody gets the training rows' rate."""
    rate = float(examples.label.mean())
    return lambda rows: np.full(len(rows), rate)


def logistic_regression(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Probabilities]:
    """Standardised numbers with an indicator for each gap, and one column for each category."""
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    values = examples.numeric.astype(np.float64)
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-6

    def design(rows: Examples) -> Any:
        missing = np.isnan(rows.numeric)
        scaled = np.where(missing, 0, np.clip((rows.numeric - mean) / spread, -6, 6))
        offsets = np.concatenate([[0], np.cumsum(cardinalities)])
        columns = rows.categorical + offsets[:-1]
        shape = (len(rows), int(offsets[-1]))
        ones = np.ones(columns.size)
        places = (np.repeat(np.arange(len(rows)), columns.shape[1]), columns.ravel())
        return sparse.hstack(
            [sparse.csr_matrix(np.hstack([scaled, missing])), sparse.csr_matrix((ones, places), shape)]
        ).tocsr()

    fitted = LogisticRegression(max_iter=200, tol=1e-3).fit(design(examples), examples.label)
    return lambda rows: np.asarray(fitted.predict_proba(design(rows))[:, 1])


def gradient_boosting(
    examples: Examples, stopping: Examples, cardinalities: list[int], seed: int
) -> Callable[[Examples], Probabilities]:
    """Histogram gradient boosting; as for the network, the stopping rows say when it has learned enough."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    few = [codes <= MOST_CODES for codes in cardinalities]

    def design(rows: Examples) -> NDArray[np.float64]:
        return np.hstack([rows.numeric, rows.categorical]).astype(np.float64)

    fitted = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=150,
        early_stopping=True,
        n_iter_no_change=10,
        categorical_features=[False] * examples.numeric.shape[1] + few,
        random_state=seed,
    ).fit(design(examples), examples.label, X_val=design(stopping), y_val=stopping.label)
    return lambda rows: np.asarray(fitted.predict_proba(design(rows))[:, 1])


BASELINES: dict[str, Fit] = {
    "constant": constant,
    "logistic_regression": logistic_regression,
    "gradient_boosting": gradient_boosting,
}
"""From the simplest to the one that is hardest to beat."""
