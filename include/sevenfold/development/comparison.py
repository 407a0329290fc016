"""Which kind of model suits a problem: the network and what it has to beat, on the same sample and rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold.development.rehearsal import Sample
from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Floats, Interval
from sevenfold.measures.quality import Rows
from sevenfold.model.tasks import Task
from sevenfold.reports import plots
from sevenfold.training import Epoch, Examples
from sevenfold.training.baselines import baselines
from sevenfold.training.learning import Learned, learn

NETWORK = "network"


@dataclass(frozen=True)
class Tried:
    """One algorithm: its predictions on the rows it was compared on, and the seconds it learned."""

    prediction: Floats
    seconds: float
    scores: Mapping[str, Interval]
    """Log loss, the task's second metric, and the gain in log loss over the constant, by day."""


@dataclass(frozen=True)
class Comparison:
    """All algorithms, by name; the network is there to be exported."""

    rows: Rows
    learned: Learned
    tried: Mapping[str, Tried]

    @property
    def best(self) -> str:
        """The algorithm with the smallest log loss."""
        return min(self.tried, key=lambda name: self.tried[name].scores["log_loss"].value)

    @property
    def sentence(self) -> str:
        """Whether the network is the best."""
        if self.best == NETWORK:
            return "The network is the best of them."
        return f"The network does not beat {words(self.best)} on these rows."

    def table(self, second: str) -> tuple[list[str], list[list[object]]]:
        """Columns and rows for people; `second` is the task's second metric."""
        cells: list[list[object]] = [
            [
                words(name),
                one.scores["log_loss"].value,
                _range(one.scores["log_loss"]),
                None if name == "constant" else one.scores[second].value,
                one.scores["log_loss_gain_over_constant"].value,
                _range(one.scores["log_loss_gain_over_constant"]),
                round(one.seconds, 2),
            ]
            for name, one in self.tried.items()
        ]
        by_day = "95 % by day"
        named = second.replace("_", " ")
        return ["algorithm", "log loss", by_day, named, "gain over constant", by_day, "seconds"], cells

    def picture(self, path: Path) -> Path:
        """The log loss of each algorithm."""
        losses = {name: one.scores["log_loss"] for name, one in self.tried.items()}
        bars = [(words(name), of.value, of.low, of.high) for name, of in losses.items()]
        return plots.intervals(path, bars, "Log loss, 95 % intervals by day", "nats")

    def gain_over(self, task: Task, name: str) -> Interval:
        """How much less the network loses than another algorithm, on the same rows."""
        losses = [task.losses(self.rows.label, self.tried[one].prediction) for one in (name, NETWORK)]
        return evaluation.mean(losses[0] - losses[1], self.rows.days)


def compare(
    sample: Sample, hyperparameters: Mapping[str, Any], progress: Callable[[str], None] = print
) -> Comparison:
    """Trains the network and every baseline on the sample, and compares them on its test rows."""
    task, rows = sample.spec.task, Rows.of(sample.test, sample.windows.test)

    def on_epoch(epoch: Epoch) -> None:
        progress(f"epoch {epoch.number}: loss {epoch.stopping_loss:.4f} on the stopping days")

    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        learned = learn(
            sample.spec,
            sample.fitting,
            sample.stopping,
            hyperparameters,
            sample.seed,
            Path(folder) / "checkpoint.pt",
            on_epoch,
        )
    predictions = {NETWORK: (learned.predict(sample.test), time.monotonic() - began)}
    examples, last, compared = (
        Examples.of(part, learned.encoder) for part in (sample.fitting, sample.stopping, sample.test)
    )
    for name, fit in baselines(task).items():
        began = time.monotonic()
        predict = fit(examples, last, learned.encoder.cardinalities, sample.seed)
        predictions[name] = (predict(compared), time.monotonic() - began)
        progress(f"{words(name)}: {predictions[name][1]:.1f} s")
    constant, _ = predictions["constant"]
    order = [*baselines(task), NETWORK]
    tried = {
        name: Tried(*predictions[name], _scores(task, rows, predictions[name][0], constant)) for name in order
    }
    return Comparison(rows, learned, tried)


def words(name: str) -> str:
    """What people call an algorithm."""
    return "the network" if name == NETWORK else name.replace("_", " ")


def _scores(task: Task, rows: Rows, prediction: Floats, constant: Floats) -> dict[str, Interval]:
    loss = task.losses(rows.label, prediction)
    gain = task.losses(rows.label, constant) - loss
    return {
        "log_loss": evaluation.mean(loss, rows.days),
        task.second: task.second_metric(rows.label, prediction, rows.days),
        "log_loss_gain_over_constant": evaluation.mean(gain, rows.days),
    }


def _range(of: Interval) -> str:
    return f"{of.low:.4f} to {of.high:.4f}"
