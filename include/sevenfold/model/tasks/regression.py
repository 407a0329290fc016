"""How much? The prediction is a number and how far off it usually is: the mean and spread of a normal.

A number without its spread could say neither what loss to expect of it nor whether a large miss is news.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import CalibrationBin, Floats, Interval
from sevenfold.model.tasks.task import Amounts, Output, Predict, Task, Words, binned, finite_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn

HALF_LOG_TWO_PI = float(np.log(2 * np.pi) / 2)
NARROWEST, WIDEST = -5.0, 5.0
"""Bounds of the log spread, in logs of the training labels' own spread: no row may own the whole loss."""
FARTHEST = 1e4
"""Spreads beyond which a miss counts no more: a finite loss can be compared."""


@dataclass(frozen=True)
class Regression(Task):
    """A label is any number; the network gives two numbers a row [n, 2], mean and log spread on a scale of 1.

    Its loss is the negative log density (Nix and Weigend, 1994). A prediction is wrong when its mean misses
    by more than `tolerance`, which the model's spec names in the label's unit.
    """

    unit: str = ""
    tolerance: float = 1.0

    name: ClassVar[str] = "regression"
    output: ClassVar[Output] = Output("prediction", ("mean", "spread"))
    second: ClassVar[str] = "absolute_error"
    more_is_better: ClassVar[bool] = False
    outcome_metric: ClassVar[str] = "squared_error"
    linear: ClassVar[str] = "linear_regression"
    has_classes: ClassVar[bool] = False
    raw_shape: ClassVar[tuple[int, ...]] = (2,)

    @property
    def second_unit(self) -> str:
        return self.unit

    @property
    def outcome_unit(self) -> str:
        return f"{self.unit}²"

    def complaint(self, label: Floats) -> str | None:
        return finite_numbers(label)

    def hopeless(self, distinct: Floats) -> str | None:
        return f"are {distinct[0]:g}: there is nothing to tell apart" if len(distinct) == 1 else None

    def row_losses(self, raw: Tensor, label: Tensor) -> Tensor:
        miss = (label - raw[:, 0]) * (-raw[:, 1]).exp()
        return HALF_LOG_TWO_PI + raw[:, 1] + miss.square() / 2

    def served(self, raw: Tensor) -> Tensor:
        import torch

        return torch.stack([raw[:, 0], raw[:, 1].exp()], dim=1)

    def on_scale_of(self, network: nn.Module, label: Floats) -> nn.Module:
        """The network works on a scale of 1; what comes out is in the label's unit."""
        import torch

        class Scaled(torch.nn.Module):
            centre: Tensor
            log_scale: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.network = network
                self.register_buffer("centre", torch.tensor(float(np.mean(label))))
                self.register_buffer("log_scale", torch.tensor(float(np.log(np.std(label) + 1e-12))))

            def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
                raw = self.network(numeric, categorical)
                centre = self.centre + self.log_scale.exp() * raw[:, 0]
                return torch.stack([centre, self.log_scale + raw[:, 1].clamp(NARROWEST, WIDEST)], dim=1)

        return Scaled()

    def constant(self, label: Floats) -> Floats:
        return np.array([label.mean(), label.std()], np.float64)

    def fit_linear(self, design: Any, label: Floats) -> Predict:
        from sklearn.linear_model import Ridge

        fitted = Ridge().fit(design, label)
        return self._with_spread(fitted, label - fitted.predict(design))

    def fit_boosting(
        self, settings: Mapping[str, Any], design: Any, label: Floats, stopping: Any, last: Floats
    ) -> Predict:
        """Its spread is what it missed by on the stopping rows, which it was not fitted to."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        fitted = HistGradientBoostingRegressor(**settings).fit(design, label, X_val=stopping, y_val=last)
        return self._with_spread(fitted, last - fitted.predict(stopping))

    def _with_spread(self, fitted: Any, missed: Floats) -> Predict:
        spread = float(np.sqrt(np.mean(np.square(missed)))) or 1e-12

        def predict(rows: Any) -> Floats:
            centre = np.asarray(fitted.predict(rows), np.float64)
            return np.stack([centre, np.full(len(centre), spread)], axis=1)

        return predict

    def losses(self, label: Floats, prediction: Floats) -> NDArray[np.float64]:
        centre, spread = _parts(prediction)
        miss = np.clip((np.asarray(label, np.float64) - centre) / spread, -FARTHEST, FARTHEST)
        return np.asarray(HALF_LOG_TWO_PI + np.log(spread) + np.square(miss) / 2)

    def expected_losses(self, prediction: Floats) -> NDArray[np.float64]:
        return np.asarray(HALF_LOG_TWO_PI + np.log(_parts(prediction)[1]) + 0.5)

    def second_metric(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        return evaluation.mean(self._missed(label, prediction), days)

    def second_difference(
        self, label: Floats, prediction: Floats, other: Floats, days: NDArray[Any]
    ) -> Interval:
        return evaluation.mean(self._missed(label, prediction) - self._missed(label, other), days)

    def headline(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> dict[str, Interval]:
        """With the mean residual: below zero the model says too much."""
        residual = np.asarray(label, np.float64) - _parts(prediction)[0]
        return {
            **super().headline(label, prediction, days),
            "mean_residual": evaluation.mean(residual, days),
        }

    @property
    def headline_units(self) -> dict[str, str]:
        return super().headline_units | {"mean_residual": self.unit}

    def observed(self, label: Floats, prediction: Floats) -> NDArray[Any]:
        return np.square(self._missed(label, prediction))

    def expected(self, prediction: Floats) -> NDArray[Any]:
        return np.square(_parts(prediction)[1])

    def calibration_curve(
        self, label: Floats, prediction: Floats, days: NDArray[Any], bins: int = 10
    ) -> list[CalibrationBin]:
        return binned(_parts(prediction)[0], np.asarray(label, np.float64), days, bins)

    def wrong(self, label: Floats, prediction: Floats) -> NDArray[np.bool_]:
        return np.asarray(self._missed(label, prediction) > self.tolerance)

    def differ(self, prediction: Floats, other: Floats) -> NDArray[np.bool_]:
        return np.asarray(self.distance(prediction, other) > self.tolerance)

    def distance(self, prediction: Floats, other: Floats) -> NDArray[np.float64]:
        return np.abs(_parts(prediction)[0] - _parts(other)[0])

    def score(self, prediction: Floats) -> NDArray[np.float64]:
        return _parts(prediction)[0]

    def fairness(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        """Wrong predictions, and calibration: what is missed in one direction, in tolerances."""
        everyone = np.ones(len(label))
        over = (_parts(prediction)[0] - np.asarray(label, np.float64)) / self.tolerance
        return {"wrong_rate": (self.wrong(label, prediction), everyone), "calibration": (over, everyone)}

    def group_rates(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        everyone = np.ones(len(label))
        return {
            "wrong": (self.wrong(label, prediction), everyone),
            "mean absolute error": (self._missed(label, prediction), everyone),
            "mean predicted": (_parts(prediction)[0], everyone),
            "mean observed": (label, everyone),
        }

    @property
    def decision(self) -> str:
        return f"A prediction is wrong when it misses by more than {self.tolerance:g} {self.unit}."

    @property
    def words(self) -> Words:
        return Words(
            outcome="the squared error",
            as_="large",
            more="larger than expected",
            less="smaller than expected",
            same="as large as expected",
            predicted=f"predicted, {self.unit}",
            observed=f"observed, {self.unit}",
        )

    def _missed(self, label: Floats, prediction: Floats) -> NDArray[np.float64]:
        return np.abs(np.asarray(label, np.float64) - _parts(prediction)[0])


def _parts(prediction: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread; a spread of nothing counts as the smallest that floats can square."""
    both = np.asarray(prediction, np.float64)
    return both[:, 0], np.maximum(both[:, 1], 1e-12)
