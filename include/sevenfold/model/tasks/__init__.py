"""The kinds of problems: what is learned, served, compared and watched differs by kind, and only here.

A new kind is one more class of sevenfold.model.tasks.task.Task in this folder, and its name in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from sevenfold.model.tasks.binary_classification import BinaryClassification
from sevenfold.model.tasks.multiclass_classification import MulticlassClassification
from sevenfold.model.tasks.regression import Regression
from sevenfold.model.tasks.task import BadLabels, Output, Task, Words

__all__ = ["BINARY", "KINDS", "BadLabels", "Kind", "Output", "Task", "Words", "of", "settings_of"]

Kind = Literal["binary_classification", "multiclass_classification", "regression"]
KINDS: dict[str, type[Task]] = {
    task.name: task for task in (BinaryClassification, MulticlassClassification, Regression)
}
BINARY = BinaryClassification()


def settings_of(kind: str) -> tuple[str, ...]:
    """What a model's spec has to say about a task of this kind."""
    return tuple(field.name for field in fields(KINDS[kind]))


def of(described: Mapping[str, Any]) -> Task:
    """The task that `Task.described` described.

    Raises:
        ValueError: there is no such kind, or it takes other settings.
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in described.items()}
    name = given.pop("name", None)
    kind = KINDS.get(str(name))
    if kind is None:
        raise ValueError(f"there is no kind of task {name!r}; there are: {', '.join(KINDS)}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"task {name}: {error}") from None
