"""In which order rows are trained on: every epoch another, and the same whenever it is asked for again.

A batch is a step of all processes together, and each takes every so-manieth row of it: which rows make step k
depends neither on the number of processes nor on where a run was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from sevenfold.training.examples import Examples, classes
from sevenfold.training.processes import Processes
from sevenfold.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Batch(NamedTuple):
    """This process's share of one step, on the device."""

    numeric: Tensor
    categorical: Tensor
    label: Tensor
    rows: int
    """Of all processes."""


class Batches(Protocol):
    """A source of batches."""

    rows: int
    """Of an epoch."""
    steps: int
    """Of an epoch."""
    classes: dict[float, int]
    """How many rows each label has."""

    def identity(self) -> str:
        """What tells these rows from others."""

    def of_epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch, from number `first` on."""


@dataclass(frozen=True)
class Shuffle:
    """Puts rows in an order that is a function of seed, epoch and place, and cuts it into batches."""

    settings: TrainingSettings
    processes: Processes
    device: str

    def steps(self, rows: int) -> int:
        """How many batches so many rows make."""
        return -(-rows // self.settings.batch_size)

    def cut(
        self, tensors: tuple[Tensor, Tensor, Tensor], epoch: int, place: int, first: int
    ) -> Iterator[Batch]:
        """The batches of some rows in the epoch's order, from number `first` on."""
        import torch

        chance = torch.Generator().manual_seed((self.settings.seed * 100_003 + epoch + (place << 40)) % 2**63)
        numeric, categorical, label = (values.to(self.device) for values in tensors)
        order = self._order(label, chance).to(self.device)
        size = self.settings.batch_size
        for number in range(first, self.steps(len(order))):
            whole = order[number * size : (number + 1) * size]
            mine = whole[self.processes.rank :: self.processes.count] if self.processes.count > 1 else whole
            yield Batch(numeric[mine], categorical[mine], label[mine], len(whole))

    def _order(self, label: Tensor, chance: Generator) -> Tensor:
        """All rows once, or as many drawn with every label equally likely (imbalance: sampled)."""
        import torch

        n = len(label)
        if self.settings.imbalance != "sampled":
            return torch.randperm(n, generator=chance)
        of_class = [(label == value).nonzero().squeeze(1).cpu() for value in torch.unique(label)]
        drawn = torch.randint(len(of_class), (n,), generator=chance)
        order = torch.empty(n, dtype=torch.int64)
        for number, rows in enumerate(of_class):
            here = drawn == number
            order[here] = rows[torch.randint(len(rows), (int(here.sum()),), generator=chance)]
        return order


class InMemory:
    """Batches of rows that are all in memory: no workers, no copies but the batch itself."""

    def __init__(self, examples: Examples, shuffle: Shuffle) -> None:
        self._examples, self._shuffle = examples, shuffle
        self._tensors = tuple(values.to(shuffle.device) for values in examples.tensors())
        self.rows = len(examples)
        self.steps = shuffle.steps(self.rows)
        self.classes = classes(examples)

    def identity(self) -> str:
        """SHA-256 of the rows."""
        return identity(self._examples)

    def of_epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        """See Batches."""
        numeric, categorical, label = self._tensors
        return self._shuffle.cut((numeric, categorical, label), epoch, 0, first)


def identity(examples: Examples) -> str:
    """SHA-256 of encoded rows and their labels."""
    digest = hashlib.sha256()
    for array in (examples.numeric, examples.categorical, examples.label):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
