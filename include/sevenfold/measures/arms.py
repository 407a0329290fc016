"""Challenger against champion on live traffic: the same rows where it is mirrored, its own where it is split.

Mirrored rows are answered by both, so each row is its own control and small differences show. Split rows are
answered by one of the two, so only means can be compared, on the days on which both answered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.data.predictions import paired, values
from sevenfold.measures import evaluation
from sevenfold.measures.evaluation import Interval
from sevenfold.model.tasks import Task
from sevenfold.monitoring.weekly import Days, Floats, columns


@dataclass(frozen=True)
class Arm:
    """How one side did on its labelled rows."""

    log_loss: Interval
    """Nats a row."""
    over_expected: Interval
    """What was observed over what was expected: 1 if the predictions are right on average."""


@dataclass(frozen=True)
class Comparison:
    """Both sides, and the challenger's log loss less the champion's: below zero the challenger is better."""

    champion: Arm
    challenger: Arm
    difference: Interval


def mirrored(task: Task, champion: pa.Table, shadow: pa.Table) -> Comparison | None:
    """Both on the rows that both answered; None if there is no such row with a label.

    Answers belong together when they are to the same row of the same request.
    """
    mine, others = paired(champion, shadow)
    label, ours, day = columns(mine)
    if not len(label):
        return None
    theirs = values(others["prediction"].filter(pc.is_valid(mine["label"])))
    difference = task.losses(label, theirs) - task.losses(label, ours)
    return Comparison(
        _arm(task, label, ours, day), _arm(task, label, theirs, day), evaluation.mean(difference, day)
    )


def split(task: Task, champion: pa.Table, challenger: pa.Table) -> Comparison | None:
    """Each on its own rows, on the days on which both answered; None if there is no such day."""
    ours, theirs = columns(champion), columns(challenger)
    shared = np.intersect1d(ours[2], theirs[2])
    if not len(shared):
        return None
    ours, theirs = _on(shared, ours), _on(shared, theirs)
    return Comparison(_arm(task, *ours), _arm(task, *theirs), _difference(task, ours, theirs))


def _arm(task: Task, label: Floats, prediction: Floats, day: Days) -> Arm:
    return Arm(task.log_loss(label, prediction, day), task.observed_over_expected(label, prediction, day))


def _on(days: Days, side: tuple[Floats, Floats, Days]) -> tuple[Floats, Floats, Days]:
    inside = np.isin(side[2], days)
    return side[0][inside], side[1][inside], side[2][inside]


def _difference(
    task: Task, ours: tuple[Floats, Floats, Days], theirs: tuple[Floats, Floats, Days]
) -> Interval:
    """Difference of two means whose rows share days: each row stands for its influence on the difference."""
    losses = [task.losses(label, prediction) for label, prediction, _ in (ours, theirs)]
    rows = sum(map(len, losses))
    gap = losses[1].mean() - losses[0].mean()
    moved = [sign * (one - one.mean()) * rows / len(one) for sign, one in zip((-1, 1), losses, strict=True)]
    return evaluation.mean(gap + np.concatenate(moved), np.concatenate([ours[2], theirs[2]]))
