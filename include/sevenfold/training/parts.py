"""Encoded rows in a folder of Parquet files: more than memory holds, or shared by several processes.

One part holds the rows in their own order. Of several, each is a random sample of the whole, because every
row is dealt to a part by chance: the parts in another order every epoch, and the rows of each shuffled in
memory, come as near to shuffling all as one read of the disk can.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sevenfold.model import tasks
from sevenfold.model.tasks import BINARY, Task
from sevenfold.training.batches import Batch, Batches, InMemory, Shuffle
from sevenfold.training.errors import CannotLearn
from sevenfold.training.examples import Examples, check, classes

DEALT_AT_ONCE = 262_144
"""Rows collected before they are dealt: each part gets one row group of them."""
READ_AT_ONCE = 65_536


@dataclass(frozen=True)
class Parts:
    """The folder that `deal` wrote."""

    folder: Path

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return content

    @property
    def rows(self) -> list[int]:
        """Of each part."""
        return list(self._manifest["rows"])

    @property
    def digest(self) -> str:
        """SHA-256 of all rows, and of how they were dealt."""
        return str(self._manifest["digest"])

    @property
    def task(self) -> Task:
        """What the labels are for."""
        return tasks.of(self._manifest["task"])

    @property
    def classes(self) -> dict[float, int]:
        """How many rows each label has."""
        return {float(label): count for label, count in self._manifest["classes"].items()}

    def read(self, number: int, most: int | None = None) -> Examples:
        """The rows of one part, or its first `most`.

        Raises:
            CannotLearn: the file is missing or broken.
        """
        path = self.folder / _name(number)
        rows = min(self.rows[number], most or self.rows[number])
        widths = self._manifest["numeric"], self._manifest["categorical"]
        numeric = np.empty((rows, widths[0]), np.float32)
        categorical = np.empty((rows, widths[1]), np.int64)
        label, at = np.empty(rows, np.float32), 0
        try:
            with pq.ParquetFile(path) as file:
                for piece in file.iter_batches(READ_AT_ONCE):
                    piece = piece.slice(0, rows - at)
                    end = at + len(piece)
                    for i in range(widths[0]):
                        numeric[at:end, i] = piece.column(i).to_numpy()
                    for i in range(widths[1]):
                        categorical[at:end, i] = piece.column(widths[0] + i).to_numpy()
                    label[at:end] = piece.column(sum(widths)).to_numpy()
                    at = end
                    if at == rows:
                        break
        except (OSError, pa.ArrowInvalid) as error:
            raise CannotLearn(f"the training rows in {path} cannot be read: {error}") from None
        if at < rows:
            raise CannotLearn(f"{path} holds {at:,} rows instead of {rows:,}: it was cut short")
        return Examples(numeric, categorical, label, self.task)


def deal(pieces: Iterable[Examples], folder: Path, parts: int = 1, seed: int = 0) -> Parts:
    """Writes rows as so many parts, whole or not at all.

    Raises:
        CannotLearn: there are no rows, or labels that are none of the task.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    chance, digest = np.random.default_rng(seed), hashlib.sha256(f"{parts} {seed}".encode())
    counted: Counter[float] = Counter()
    rows, widths = [0] * parts, (0, 0)
    task: Task = BINARY
    writers: list[pq.ParquetWriter] = []
    try:
        for piece in _collected(pieces):
            if not writers:
                task = piece.task
                widths = piece.numeric.shape[1], piece.categorical.shape[1]
                writers = [_writer(folder / _name(number), _schema(*widths)) for number in range(parts)]
            check(piece, folder.name)
            counted.update(classes(piece))
            for array in (piece.numeric, piece.categorical, piece.label):
                digest.update(np.ascontiguousarray(array).data)
            drawn = chance.integers(parts, size=len(piece)) if parts > 1 else np.zeros(len(piece), np.int64)
            for number, writer in enumerate(writers):
                here = np.flatnonzero(drawn == number)
                rows[number] += len(here)
                if len(here):
                    writer.write_table(_table(piece, here))
    finally:
        for writer in writers:
            writer.close()
    if not writers:
        raise CannotLearn(f"the {folder.name} window has no labelled rows")
    manifest = {
        "task": task.described(),
        "rows": rows,
        "numeric": widths[0],
        "categorical": widths[1],
        "classes": {str(label): count for label, count in sorted(counted.items())},
        "digest": digest.hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Parts(folder)


class Streamed:
    """Batches of rows of which only one part is in memory at a time."""

    def __init__(self, parts: Parts, shuffle: Shuffle) -> None:
        self._parts, self._shuffle = parts, shuffle
        self._steps = [shuffle.steps(rows) for rows in parts.rows]
        self.rows, self.steps, self.classes = sum(parts.rows), sum(self._steps), parts.classes

    def identity(self) -> str:
        """See Batches."""
        return self._parts.digest

    def of_epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        """See Batches. The parts before the one that holds batch `first` are not read."""
        import torch

        chance = torch.Generator().manual_seed((self._shuffle.settings.seed * 100_003 + epoch) % 2**63)
        for number in torch.randperm(len(self._steps), generator=chance).tolist():
            if first >= self._steps[number]:
                first -= self._steps[number]
                continue
            # as an argument, not as a variable: it is gone before the next part is read
            yield from self._shuffle.cut(self._parts.read(number).tensors(), epoch, number + 1, first)
            first = 0


def batches_of(rows: Examples | Parts, shuffle: Shuffle) -> Batches:
    """The batches of rows in memory, or of parts: one part is read into memory, several are streamed.

    Raises:
        CannotLearn: see sevenfold.training.examples.check; parts were checked when they were dealt.
    """
    if isinstance(rows, Examples):
        check(rows, "training")
        return InMemory(rows, shuffle)
    return InMemory(rows.read(0), shuffle) if len(rows.rows) == 1 else Streamed(rows, shuffle)


def _collected(pieces: Iterable[Examples]) -> Iterator[Examples]:
    """The same rows in pieces that are worth dealing."""
    waiting: list[Examples] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= DEALT_AT_ONCE:
            yield _joined(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield _joined(waiting)


def _joined(pieces: list[Examples]) -> Examples:
    return Examples(
        np.concatenate([piece.numeric for piece in pieces]),
        np.concatenate([piece.categorical for piece in pieces]),
        np.concatenate([piece.label for piece in pieces]),
        pieces[0].task,
    )


def _name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _schema(numeric: int, categorical: int) -> pa.Schema:
    fields = [(f"numeric_{i}", pa.float32()) for i in range(numeric)]
    fields += [(f"categorical_{i}", pa.int32()) for i in range(categorical)]
    return pa.schema([*fields, ("label", pa.float32())])


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, write_statistics=False)


def _table(examples: Examples, rows: Any) -> pa.Table:
    numeric, categorical = examples.numeric[rows], examples.categorical[rows].astype(np.int32)
    columns = [pa.array(numeric[:, i]) for i in range(numeric.shape[1])]
    columns += [pa.array(categorical[:, i]) for i in range(categorical.shape[1])]
    schema = _schema(numeric.shape[1], categorical.shape[1])
    return pa.Table.from_arrays([*columns, pa.array(examples.label[rows])], schema=schema)
