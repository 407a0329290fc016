"""Which of a few things is it? The prediction is a probability for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import SMALLEST, CalibrationBin, Floats, Interval
from sevenfold.model.tasks.task import Amounts, Output, Predict, Task, Words, binned

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MulticlassClassification(Task):
    """A label is the place of its class in `classes`; the network gives K logits a row [n, K].

    The decision is the likeliest class. What is watched is how often it is wrong, against how often the
    probabilities say that it will be.
    """

    classes: tuple[str, ...] = ()

    name: ClassVar[str] = "multiclass_classification"
    unit: ClassVar[str] = "probability"
    second: ClassVar[str] = "accuracy"
    second_unit: ClassVar[str] = "share"
    outcome_metric: ClassVar[str] = "wrong_rate"
    outcome_unit: ClassVar[str] = "share"
    linear: ClassVar[str] = "logistic_regression"
    decision: ClassVar[str] = "The likeliest class is the decision."

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 3:
            raise ValueError("classes must be at least three different names")

    @property
    def output(self) -> Output:
        """One probability a class, in the order of the classes."""
        return Output("probabilities", self.classes, 0.0, 1.0)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        return (len(self.classes),)

    def complaint(self, label: Floats) -> str | None:
        values = np.unique(label)
        odd = values[~np.isin(values, range(len(self.classes)))]
        last = len(self.classes) - 1
        return (
            f"must be 0 to {last}, the places of {', '.join(self.classes)}, but {odd[0]:g} is among them"
            if len(odd)
            else None
        )

    def hopeless(self, distinct: Floats) -> str | None:
        seen = np.asarray(distinct, int)
        if len(seen) == 1:
            return f"are {self.classes[seen[0]]}: there is nothing to tell apart"
        never = [name for place, name in enumerate(self.classes) if place not in seen]
        return (
            f"are of other classes: {', '.join(never)} never came, so nobody can learn it" if never else None
        )

    def row_losses(self, raw: Tensor, label: Tensor) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(raw, label.long(), reduction="none")

    def served(self, raw: Tensor) -> Tensor:
        import torch

        return torch.softmax(raw, dim=1)

    def constant(self, label: Floats) -> Floats:
        return np.bincount(np.asarray(label, int), minlength=len(self.classes)) / max(1, len(label))

    def fit_linear(self, design: Any, label: Floats) -> Predict:
        from sklearn.linear_model import LogisticRegression

        return self._estimates(LogisticRegression(max_iter=200, tol=1e-3).fit(design, label))

    def fit_boosting(
        self, settings: Mapping[str, Any], design: Any, label: Floats, stopping: Any, last: Floats
    ) -> Predict:
        from sklearn.ensemble import HistGradientBoostingClassifier

        known = np.isin(last, np.unique(label))  # it refuses classes that it was not shown
        return self._estimates(
            HistGradientBoostingClassifier(**settings).fit(
                design, label, X_val=stopping[known], y_val=last[known]
            )
        )

    def _estimates(self, fitted: Any) -> Predict:
        def predict(rows: Any) -> Floats:
            found = np.zeros((rows.shape[0], len(self.classes)))
            found[:, fitted.classes_.astype(int)] = fitted.predict_proba(rows)
            return found

        return predict

    def losses(self, label: Floats, prediction: Floats) -> NDArray[np.float64]:
        given = np.asarray(prediction, np.float64)[np.arange(len(label)), np.asarray(label, int)]
        return np.asarray(-np.log(np.clip(given, SMALLEST, 1)))

    def expected_losses(self, prediction: Floats) -> NDArray[np.float64]:
        p = np.clip(np.asarray(prediction, np.float64), SMALLEST, 1)
        return np.asarray(-(p * np.log(p)).sum(axis=1))

    def second_metric(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        return evaluation.mean(1 - self.observed(label, prediction), days)

    def second_difference(
        self, label: Floats, prediction: Floats, other: Floats, days: NDArray[Any]
    ) -> Interval:
        return evaluation.mean(self.observed(label, other) - self.observed(label, prediction), days)

    def observed(self, label: Floats, prediction: Floats) -> NDArray[Any]:
        return self.wrong(label, prediction).astype(np.float64)

    def expected(self, prediction: Floats) -> NDArray[Any]:
        return np.asarray(1 - np.asarray(prediction, np.float64).max(axis=1))

    def calibration_curve(
        self, label: Floats, prediction: Floats, days: NDArray[Any], bins: int = 10
    ) -> list[CalibrationBin]:
        """Of the likeliest class: how often it came, over its probability."""
        return binned(1 - self.expected(prediction), ~self.wrong(label, prediction), days, bins)

    def decided(self, prediction: Floats) -> NDArray[np.int64]:
        """The place of each row's likeliest class."""
        return np.asarray(np.asarray(prediction).argmax(axis=1), np.int64)

    def wrong(self, label: Floats, prediction: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.decided(prediction) != np.asarray(label, int))

    def differ(self, prediction: Floats, other: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.decided(prediction) != self.decided(other))

    def distance(self, prediction: Floats, other: Floats) -> NDArray[np.float64]:
        """Total variation: the largest difference in the probability of anything."""
        gap = np.asarray(prediction, np.float64) - np.asarray(other, np.float64)
        return np.asarray(np.abs(gap).sum(axis=1) / 2)

    def score(self, prediction: Floats) -> NDArray[np.float64]:
        """The place of the likeliest class plus its probability: moves with their mix and with confidence."""
        p = np.asarray(prediction, np.float64)
        return np.asarray(p.argmax(axis=1) + np.minimum(p.max(axis=1), 1 - 1e-9))

    def fairness(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        """Calibration is the mean probability of the decision minus how often it is right."""
        right, everyone = ~self.wrong(label, prediction), np.ones(len(label))
        return {
            "accuracy": (right, everyone),
            "calibration": (1 - self.expected(prediction) - right, everyone),
        }

    def group_rates(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        everyone = np.ones(len(label))
        rates: dict[str, Amounts] = {"accuracy": (~self.wrong(label, prediction), everyone)}
        for place, name in enumerate(self.classes):
            rates[f"{name}, mean probability"] = (np.asarray(prediction)[:, place], everyone)
            rates[f"{name}, observed"] = (np.asarray(label) == place, everyone)
        return rates

    @property
    def words(self) -> Words:
        return Words(
            outcome="a wrong class",
            as_="frequent",
            more="more often than expected",
            less="less often than expected",
            same="as often as expected",
            predicted="probability of the likeliest class",
            observed="share in which it came",
        )
