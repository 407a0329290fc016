"""Does it happen or not? The prediction is the probability that it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import CalibrationBin, Floats, Interval
from sevenfold.model.tasks.task import Amounts, Output, Predict, Task, Words

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.5
"""The threshold at which a calibrated model makes the fewest wrong decisions."""
PROBABILITY = Output("probability", low=0.0, high=1.0)


@dataclass(frozen=True)
class BinaryClassification(Task):
    """Labels are 0 and 1; the network gives logits [n]; probabilities of label 1 [n] are served."""

    positive: str = "positive"
    """What label 1 means, in words for people."""

    name: ClassVar[str] = "binary_classification"
    output: ClassVar[Output] = PROBABILITY
    unit: ClassVar[str] = "probability"
    second: ClassVar[str] = "auc"
    second_unit: ClassVar[str] = ""
    outcome_metric: ClassVar[str] = "positive_rate"
    outcome_unit: ClassVar[str] = "share"
    linear: ClassVar[str] = "logistic_regression"
    raw_shape: ClassVar[tuple[int, ...]] = ()
    decision: ClassVar[str] = f"A row is decided positive from a probability of {THRESHOLD:g}."

    def complaint(self, label: Floats) -> str | None:
        values = np.unique(label)
        odd = values[~np.isin(values, (0, 1))]
        return f"must be 0 or 1, but {odd[0]} is among them" if len(odd) else None

    def hopeless(self, distinct: Floats) -> str | None:
        return f"are {distinct[0]:.0f}: there is nothing to tell apart" if len(distinct) == 1 else None

    def row_losses(self, raw: Tensor, label: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(raw, label, reduction="none")

    def served(self, raw: Tensor) -> Tensor:
        import torch

        return torch.sigmoid(raw)

    def constant(self, label: Floats) -> Floats:
        return np.asarray(float(label.mean()))

    def fit_linear(self, design: Any, label: Floats) -> Predict:
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(max_iter=200, tol=1e-3).fit(design, label)
        return lambda rows: np.asarray(fitted.predict_proba(rows)[:, 1])

    def fit_boosting(
        self, settings: Mapping[str, Any], design: Any, label: Floats, stopping: Any, last: Floats
    ) -> Predict:
        from sklearn.ensemble import HistGradientBoostingClassifier

        fitted = HistGradientBoostingClassifier(**settings).fit(design, label, X_val=stopping, y_val=last)
        return lambda rows: np.asarray(fitted.predict_proba(rows)[:, 1])

    def losses(self, label: Floats, prediction: Floats) -> NDArray[np.float64]:
        return evaluation.log_losses(label, prediction)

    def expected_losses(self, prediction: Floats) -> NDArray[np.float64]:
        yes, no = (evaluation.log_losses(np.full(len(prediction), label), prediction) for label in (1.0, 0.0))
        return np.asarray(prediction * yes + (1 - prediction) * no, np.float64)

    def second_metric(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        return evaluation.auc(label, prediction, days)

    def second_difference(
        self, label: Floats, prediction: Floats, other: Floats, days: NDArray[Any]
    ) -> Interval:
        return evaluation.auc_difference(label, prediction, other, days)

    def observed(self, label: Floats, prediction: Floats) -> NDArray[Any]:
        return np.asarray(label)

    def expected(self, prediction: Floats) -> NDArray[Any]:
        return np.asarray(prediction)

    def calibration_curve(
        self, label: Floats, prediction: Floats, days: NDArray[Any], bins: int = 10
    ) -> list[CalibrationBin]:
        return evaluation.calibration_curve(label, prediction, days, bins)

    def decided(self, prediction: Floats) -> NDArray[np.bool_]:
        """Whether each row is decided positive."""
        return np.asarray(prediction) >= THRESHOLD

    def wrong(self, label: Floats, prediction: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.decided(prediction) != (np.asarray(label) > 0.5))

    def differ(self, prediction: Floats, other: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.decided(prediction) != self.decided(other))

    def distance(self, prediction: Floats, other: Floats) -> NDArray[np.float64]:
        return np.abs(np.asarray(prediction, np.float64) - np.asarray(other, np.float64))

    def score(self, prediction: Floats) -> NDArray[np.float64]:
        return np.asarray(prediction, np.float64)

    def fairness(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        """Calibration is the mean probability minus the observed rate: above zero a group is over-warned."""
        positive, chosen = np.asarray(label).astype(bool), self.decided(prediction)
        return {
            "true_positive_rate": (positive & chosen, positive),
            "false_positive_rate": (~positive & chosen, ~positive),
            "calibration": (np.asarray(prediction, np.float64) - positive, np.ones(len(positive))),
        }

    def group_rates(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        positive, chosen, all_ = np.asarray(label).astype(bool), self.decided(prediction), np.ones(len(label))
        return {
            "selected": (chosen, all_),
            "true positive rate": (positive & chosen, positive),
            "false positive rate": (~positive & chosen, ~positive),
            "mean probability": (prediction, all_),
            "observed rate": (positive, all_),
        }

    @property
    def words(self) -> Words:
        return Words(
            outcome=f"'{self.positive}'",
            as_="frequent",
            more="more often than expected",
            less="less often than expected",
            same="as often as expected",
            predicted="predicted probability",
            observed="observed rate",
        )
