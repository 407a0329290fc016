"""What a kind of problem has to say for itself, so that nothing else has to know which kind it is.

All kinds share one currency: a prediction says how likely each outcome is, and its loss is the negative log
of what it gave to the outcome that came (nats; Good, 1952). So losses of every kind are compared, gated and
watched in the same way, and every kind knows what loss to expect if its predictions are right.

A label is one number a row. A prediction is one number a row [n], or a few [n, K]; `Output` says which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sevenfold.errors import SevenfoldError
from sevenfold.measures.evaluation import CalibrationBin, Floats, Interval, mean, ratio

if TYPE_CHECKING:
    from torch import Tensor, nn

Predict = Callable[[Any], Floats]
"""From a design matrix [n, D] to predictions."""
Amounts = tuple[NDArray[Any], NDArray[Any]]
"""Two amounts a row [n] whose sums' ratio is a rate."""


class BadLabels(SevenfoldError):
    """Labels that are no labels of the task, or from which nothing can be learned."""


@dataclass(frozen=True)
class Output:
    """The tensor that is served: float32 [n], or [n, K] with a name for each of its K columns."""

    name: str
    columns: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    """The smallest and the largest number that it may hold."""

    def shape(self, rows: int) -> tuple[int, ...]:
        """Its shape for so many rows."""
        return (rows, len(self.columns)) if self.columns else (rows,)


@dataclass(frozen=True)
class Words:
    """How people hear of an outcome: "'arrives late' was 1.6 times as frequent as expected"."""

    outcome: str
    as_: str
    """As what it is expected to be: frequent, large."""
    more: str
    """What more of it than expected is called: more often, larger."""
    less: str
    same: str
    """And as much of it as expected: as often, as large."""
    predicted: str
    """The axis of a calibration curve."""
    observed: str


@dataclass(frozen=True)
class Task(ABC):
    """One kind of problem, with what the model's spec says about it."""

    name: ClassVar[str]
    second: ClassVar[str]
    """The headline metric beside the log loss, which people understand more easily."""
    more_is_better: ClassVar[bool] = True
    """Of the metric `second`."""
    has_classes: ClassVar[bool] = True
    """Whether a label is one of a few."""
    outcome_metric: ClassVar[str]
    """What the mean of `observed` is called."""
    linear: ClassVar[str]
    """The simple model that everybody knows."""

    @property
    @abstractmethod
    def outcome_unit(self) -> str:
        """Of `outcome_metric`."""

    @property
    @abstractmethod
    def output(self) -> Output:
        """What is served."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of the distance between two predictions."""

    @property
    @abstractmethod
    def second_unit(self) -> str:
        """Of the metric `second`."""

    def described(self) -> dict[str, Any]:
        """What `sevenfold.model.tasks.of` makes an equal task of."""
        return {"name": self.name, **asdict(self)}

    # Learning

    @abstractmethod
    def complaint(self, label: Floats) -> str | None:
        """What is wrong with labels [n] as labels, in words that go on after "the labels ..."."""

    @abstractmethod
    def hopeless(self, distinct: Floats) -> str | None:
        """Why nothing can be learned where only these labels come, in words after "all labels ..."."""

    @abstractmethod
    def row_losses(self, raw: Tensor, label: Tensor) -> Tensor:
        """The log loss [n] of what the network gives, before `served`; differentiable."""

    @abstractmethod
    def served(self, raw: Tensor) -> Tensor:
        """What the network gives, as it is served; becomes part of the ONNX graph."""

    @property
    @abstractmethod
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of what the network gives for one row: () for [n], (K,) for [n, K]."""

    def on_scale_of(self, network: nn.Module, label: Floats) -> nn.Module:
        """The network with whatever it needs to know of the training labels' size."""
        return network

    @abstractmethod
    def constant(self, label: Floats) -> Floats:
        """The one prediction, () or [K], that suits all rows best."""

    @abstractmethod
    def fit_linear(self, design: Any, label: Floats) -> Predict:
        """The simple model that everybody knows, fitted to a design matrix [n, D]."""

    @abstractmethod
    def fit_boosting(
        self, settings: Mapping[str, Any], design: Any, label: Floats, stopping: Any, last: Floats
    ) -> Predict:
        """Histogram gradient boosting; its loss on `stopping` [m, D] says when it is enough."""

    # Quality

    @abstractmethod
    def losses(self, label: Floats, prediction: Floats) -> NDArray[np.float64]:
        """The log loss of each row, in nats: what paired comparisons are about."""

    @abstractmethod
    def expected_losses(self, prediction: Floats) -> NDArray[np.float64]:
        """The log loss to be expected of each row if its prediction is right."""

    @abstractmethod
    def second_metric(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        """The metric named `second`."""

    @abstractmethod
    def second_difference(
        self, label: Floats, prediction: Floats, other: Floats, days: NDArray[Any]
    ) -> Interval:
        """The metric `second` of `prediction` less that of `other`, on the same rows."""

    @abstractmethod
    def observed(self, label: Floats, prediction: Floats) -> NDArray[Any]:
        """How much of what must be watched came with each row: too much of it is harm."""

    @abstractmethod
    def expected(self, prediction: Floats) -> NDArray[Any]:
        """How much of it the prediction expects."""

    def observed_over_expected(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        """1 if the predictions are right on average."""
        return ratio(self.observed(label, prediction), self.expected(prediction), days)

    def log_loss(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> Interval:
        """Mean log loss, with its interval by day."""
        return mean(self.losses(label, prediction), days)

    def headline(self, label: Floats, prediction: Floats, days: NDArray[Any]) -> dict[str, Interval]:
        """The metrics that everybody quotes, by name; `headline_units` has their units."""
        return {
            "log_loss": self.log_loss(label, prediction, days),
            self.second: self.second_metric(label, prediction, days),
            "observed_over_expected": self.observed_over_expected(label, prediction, days),
        }

    @property
    def headline_units(self) -> dict[str, str]:
        """Units by metric."""
        return {"log_loss": "nats", self.second: self.second_unit, "observed_over_expected": "ratio"}

    @abstractmethod
    def calibration_curve(
        self, label: Floats, prediction: Floats, days: NDArray[Any], bins: int = 10
    ) -> list[CalibrationBin]:
        """What came over what was predicted, in bins of equal numbers of rows."""

    # Decisions and groups

    @abstractmethod
    def wrong(self, label: Floats, prediction: Floats) -> NDArray[np.bool_]:
        """Whether a row's decision turned out wrong."""

    @abstractmethod
    def differ(self, prediction: Floats, other: Floats) -> NDArray[np.bool_]:
        """Whether two predictions of a row lead to different decisions."""

    @abstractmethod
    def distance(self, prediction: Floats, other: Floats) -> NDArray[np.float64]:
        """How far apart two predictions of a row are, in `unit`."""

    @abstractmethod
    def score(self, prediction: Floats) -> NDArray[np.float64]:
        """One number a row [n] whose distribution is watched for drift."""

    @abstractmethod
    def fairness(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        """Rates that must not differ between groups, by name."""

    @abstractmethod
    def group_rates(self, label: Floats, prediction: Floats) -> dict[str, Amounts]:
        """Rates for the table that people read about groups, by words."""

    @property
    @abstractmethod
    def decision(self) -> str:
        """When a decision is made, or wrong, in a sentence for people."""

    @property
    @abstractmethod
    def words(self) -> Words:
        """Words for people."""


def binned(predicted: Floats, observed: NDArray[Any], days: NDArray[Any], bins: int) -> list[CalibrationBin]:
    """Rows in order of `predicted`, cut into bins of equal numbers: mean of both in each."""
    order = np.argsort(predicted, kind="stable")
    return [
        CalibrationBin(float(np.mean(predicted[rows])), mean(observed[rows], days[rows]))
        for rows in np.array_split(order, bins)
        if len(rows)
    ]


def finite_numbers(label: Floats) -> str | None:
    """The complaint about labels that are no finite numbers."""
    bad = ~np.isfinite(np.asarray(label, np.float64))
    return (
        f"must be numbers, but {int(bad.sum())} of {len(bad)} are missing or infinite" if bad.any() else None
    )
