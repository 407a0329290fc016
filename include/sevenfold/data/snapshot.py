"""A model's data as files: one Parquet file of rows and one of labels a day, and a manifest of their hashes.

A snapshot is made once, at first use, and never changes: its folder is named after what makes it (the
source's version, the model's data code, the days and the features that it lists). A later one writes only the
partitions whose content is new; the others are the files of an earlier snapshot (hard links). What the
manifest does not vouch for is not read.

    <data>/<model>/<12 hex>/manifest.json
    <data>/<model>/<12 hex>/rows/2013-04-05.parquet    id, time, day, features, groups, whatever else
    <data>/<model>/<12 hex>/labels/2013-04-05.parquet  id, time, label, known_at (of that day's rows)

The day of a row is the model's choice (flights: the local date at the origin); statistics cluster by it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec
from sevenfold.settings import settings

Kind = Literal["rows", "labels"]
KINDS: tuple[Kind, ...] = ("rows", "labels")
FORMAT = 1


class MissingDay(SevenfoldError):
    """A day of the asked window is not in the snapshot."""


class BadData(SevenfoldError):
    """Data that do not fit the spec, or files that do not fit the manifest."""


class Leak(BadData):
    """Rows with a feature that nobody knows yet when the prediction is made."""


class Snapshot:
    """One immutable snapshot; reads only the days and columns that are asked for, each file verified."""

    def __init__(self, spec: ModelSpec, folder: Path) -> None:
        self.spec = spec
        self.folder = folder

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Days with rows, bytes and SHA-256 of both files, and what the snapshot was made of."""
        path = self.folder / "manifest.json"
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BadData(f"the snapshot of {self.spec.name} has no readable manifest at {path}") from error
        return manifest

    @cached_property
    def days(self) -> list[date]:
        """All days, in order."""
        return [date.fromisoformat(day) for day in self.manifest["days"]]

    def rows(self, start: datetime, end: datetime, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows with start <= time < end, in the order of (time, id); id, time and day always come along.

        Raises:
            MissingDay: the snapshot lacks a day of the window.
            BadData: a file is not what the manifest says, or lacks a column.
        """
        wanted = list(dict.fromkeys(["id", "time", "day", *columns])) if columns is not None else None
        return self._read("rows", start, end, wanted)

    def labels(self, start: datetime, end: datetime, known_by: datetime | None = None) -> pa.Table:
        """Labels (id, time, label, known_at) of the rows with start <= time < end, as known at `known_by`.

        `time` is the row's. A row whose label nobody knows yet, or ever will, has none here.
        """
        table = self._read("labels", start, end, None)
        if known_by is None:
            return table
        return table.filter(pc.less_equal(table["known_at"], _scalar(known_by)))

    def labelled(
        self,
        start: datetime,
        end: datetime,
        known_by: datetime | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The rows of the window that have a label, with columns `label` and `known_at` added."""
        rows, labels = self.rows(start, end, columns), self.labels(start, end, known_by)
        where = pc.index_in(rows["id"], value_set=labels["id"].combine_chunks())
        found = pc.is_valid(where)
        rows, where = rows.filter(found), where.filter(found)
        for name in ("label", "known_at"):
            rows = rows.append_column(name, labels[name].take(where))
        return rows

    def labelled_pieces(
        self,
        start: datetime,
        end: datetime,
        known_by: datetime | None = None,
        columns: Sequence[str] | None = None,
        rows: int = 200_000,
    ) -> Iterator[pa.Table]:
        """The same as `labelled`, in the same order, in pieces of about so many rows."""
        days = max(1, round((end - start).days * rows / max(1, self.count(start, end))))
        while start < end:
            until = min(end, start + timedelta(days=days))
            yield self.labelled(start, until, known_by, columns)
            start = until

    def count(self, start: datetime, end: datetime) -> int:
        """About how many rows the window has, without reading them: those of all its days."""
        return sum(int(self._entry("rows", day)["rows"]) for day in self._within(start, end))

    def digest(self, start: datetime, end: datetime, known_by: datetime | None = None) -> str:
        """SHA-256 that identifies exactly what `labelled(start, end, known_by)` reads."""
        described = {
            "window": [moment.isoformat() if moment else None for moment in (start, end, known_by)],
            "files": [
                [self._entry(kind, day)["sha256"] for kind in KINDS] for day in self._within(start, end)
            ],
        }
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def _read(self, kind: Kind, start: datetime, end: datetime, columns: list[str] | None) -> pa.Table:
        days = self._within(start, end)
        tables = [self._file(kind, day, columns) for day in days]
        table = pa.concat_tables(tables)
        inside = pc.and_(
            pc.greater_equal(table["time"], _scalar(start)), pc.less(table["time"], _scalar(end))
        )
        return table.filter(inside).combine_chunks()

    def _within(self, start: datetime, end: datetime) -> list[date]:
        """The days whose rows can lie in [start, end): local dates, so one more on either side."""
        if end <= start:
            raise MissingDay(f"the window of {self.spec.name} from {start} to {end} holds no time at all")
        first, last = start.astimezone(UTC).date(), (end.astimezone(UTC) - timedelta(microseconds=1)).date()
        known = set(self.days)
        asked = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        lacking = [day for day in asked if day not in known]
        if lacking:
            raise MissingDay(
                f"the data of {self.spec.name} lack {lacking[0]}"
                + (f" and {len(lacking) - 1} more days" if len(lacking) > 1 else "")
                + f"; they have {self.days[0]} to {self.days[-1]} in {self.folder}"
            )
        around = [first - timedelta(days=1), *asked, last + timedelta(days=1)]
        return [day for day in around if day in known]

    def _entry(self, kind: Kind, day: date) -> dict[str, Any]:
        entry: dict[str, Any] = self.manifest["days"][day.isoformat()][kind]
        return entry

    def _file(self, kind: Kind, day: date, columns: list[str] | None) -> pa.Table:
        path = self.folder / kind / f"{day}.parquet"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise MissingDay(f"the {kind} of {self.spec.name} on {day} are gone: {path} is missing") from None
        if hashlib.sha256(content).hexdigest() != self._entry(kind, day)["sha256"]:
            raise BadData(
                f"{path} is not what its manifest says ({len(content):,} bytes): it was altered or "
                f"truncated; remove {self.folder} and it is made again"
            )
        try:
            table = pq.read_table(pa.BufferReader(content), columns=columns)
        except (pa.ArrowInvalid, KeyError) as error:
            raise BadData(f"{path} cannot be read: {error}") from None
        for field in table.schema:
            declared = self.manifest["columns"][kind].get(field.name)
            if str(field.type) != declared:
                raise BadData(
                    f"{path}: column {field.name} is {field.type}, and its manifest says {declared}"
                )
        return table


def snapshot(spec: ModelSpec, data: Path | None = None, progress: Callable[[str], None] = print) -> Snapshot:
    """The snapshot of the model's data, made now if there is none (default place: the settings' data).

    Safe for several processes: one makes it, the others wait. A process that dies in between leaves nothing.
    """
    home = (data or settings().data) / spec.name
    folder = home / _recipe(spec)[:12]
    if not (folder / "manifest.json").exists():
        with _lock(home):
            if not (folder / "manifest.json").exists():
                rows, labels = spec.entry("data")(progress)
                write(spec, folder, rows, labels, progress)
    return Snapshot(spec, folder)


def write(
    spec: ModelSpec,
    folder: Path,
    rows: pa.Table,
    labels: pa.Table,
    progress: Callable[[str], None] = lambda line: None,
) -> Snapshot:
    """Writes rows and labels as the snapshot `folder`, whole or not at all.

    Raises:
        BadData: the tables do not fit the spec.
    """
    rows, labels = check(spec, rows, labels)
    days = _by_day(rows)
    _as_declared(spec, list(days))
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left_behind in [folder, *folder.parent.glob(f".{folder.name}-*")]:  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    earlier = _partitions(folder.parent)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "model": spec.name,
            "source": spec.data.source,
            "recipe": _recipe(spec),
            "columns": {kind: _columns(table) for kind, table in (("rows", rows), ("labels", labels))},
            "days": {day.isoformat(): {} for day in days},
        }
        for kind, table in (("rows", rows), ("labels", labels.drop_columns("day"))):
            (half / kind).mkdir()
            places = _by_day(labels) if kind == "labels" else days
            kept = 0
            for day in days:
                start, length = places.get(day, (0, 0))
                path = half / kind / f"{day}.parquet"
                content = _parquet(table.slice(start, length))
                digest = hashlib.sha256(content).hexdigest()
                kept += _write_partition(path, content, earlier.get(digest))
                entry = {"rows": length, "bytes": len(content), "sha256": digest}
                manifest["days"][day.isoformat()][kind] = entry
            unchanged = f"; {kept} more have not changed since an earlier snapshot" if kept else ""
            progress(f"wrote the {kind} of {len(days) - kept} days{unchanged}")
        (half / "manifest.json").write_text(json.dumps(manifest, indent=1))
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return Snapshot(spec, folder)


def check(spec: ModelSpec, rows: pa.Table, labels: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows and labels in order, labels with `time` and `day` of their row, columns of the right types.

    Raises:
        BadData: naming the first column that is missing or of the wrong type, an id that comes twice, or the
            label that is without a row, none of the task, or known before its row.
        Leak: a feature of a row is known later than the row's prediction is made.
    """
    instant = pa.types.is_timestamp
    kinds: list[tuple[str, pa.Table, str, Callable[[pa.DataType], bool], str]] = [
        ("rows", rows, "id", _is_text, "text"),
        ("rows", rows, "time", instant, "a time"),
        ("rows", rows, "day", pa.types.is_date32, "a date"),
        *(("rows", rows, name, _is_number, "a number") for name in spec.numeric),
        *(("rows", rows, name, _is_text, "text") for name in (*spec.categorical, *spec.groups)),
        *(("rows", rows, name, instant, "a time") for name in spec.features.known_at),
        ("labels", labels, "id", _is_text, "text"),
        ("labels", labels, "label", _is_number, "a number"),
        ("labels", labels, "known_at", instant, "a time"),
    ]
    for table, content, name, fits, wanted in kinds:
        if name not in content.column_names:
            raise BadData(f"the {table} of {spec.name} lack the column {name}")
        found = content.schema.field(name).type
        if not fits(found):
            raise BadData(f"column {name} of the {table} of {spec.name} must be {wanted}, but is {found}")
    for table, content in (("rows", rows), ("labels", labels)):
        if twice := _twice(content["id"]):
            raise BadData(f"the {table} of {spec.name} have the id {twice} more than once")
    refuse_leaks(spec, rows)
    if complaint := spec.task.complaint(np.asarray(labels["label"], np.float64)):
        raise BadData(f"the labels of {spec.name} {complaint}")
    where = pc.index_in(labels["id"], value_set=rows["id"].combine_chunks())
    if where.null_count:
        stray = labels["id"].filter(pc.is_null(where))[0]
        raise BadData(f"the labels of {spec.name} name a row that does not exist: {stray}")
    for name in ("time", "day"):
        labels = labels.append_column(name, rows[name].take(where))
    early = labels.filter(pc.less_equal(labels["known_at"], labels["time"]))
    if early.num_rows:
        raise BadData(
            f"the label of row {early['id'][0]} of {spec.name} is known at {early['known_at'][0]}, and its "
            f"prediction is made at {early['time'][0]}: there is nothing to predict"
        )
    order = [("day", "ascending"), ("time", "ascending"), ("id", "ascending")]
    return rows.sort_by(order), labels.select(["id", "time", "label", "known_at", "day"]).sort_by(order)


def refuse_leaks(spec: ModelSpec, rows: pa.Table) -> None:
    """Refuses rows with a feature that is known later than at their `time`, or without saying when.

    Raises:
        Leak: naming the first such row and its features.
    """
    for source, features in spec.features.known_at.items():
        known = rows[source]
        late = rows.filter(pc.greater(known, rows["time"]))
        if late.num_rows:
            raise Leak(
                f"{', '.join(features)} of {spec.name} would leak: {source} of row {late['id'][0]} is "
                f"{late[source][0]}, and its prediction is made at {late['time'][0]} "
                f"({late.num_rows:,} of {rows.num_rows:,} rows)"
            )
        unsaid = rows.filter(pc.is_null(known)) if known.null_count else rows.slice(0, 0)
        for name in features:
            told = unsaid.filter(
                pc.is_valid(pc.if_else(pc.is_null(unsaid[name], nan_is_null=True), None, True))
            )
            if told.num_rows:
                raise Leak(
                    f"{name} of {spec.name} may leak: row {told['id'][0]} has a value and no {source}, so "
                    f"nobody can say when it was known ({told.num_rows:,} of {rows.num_rows:,} rows)"
                )


def _twice(ids: pa.ChunkedArray) -> str | None:
    """An id that comes more than once."""
    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    counted = ids.value_counts()
    which = pc.index(pc.greater(counted.field("counts"), 1), True)
    return str(counted.field("values")[which.as_py()])


def _recipe(spec: ModelSpec) -> str:
    """SHA-256 of what makes the data: format, version of the source, code, covered days, columns."""
    version = metadata.version(spec.data.package) if spec.data.package else ""
    parts = [str(FORMAT), version, str(spec.data.starts), str(spec.data.ends), *spec.columns, *spec.groups]
    parts += [f"{source}: {' '.join(names)}" for source, names in spec.features.known_at.items()]
    parts += [(spec.folder / name).read_text() for name in spec.data.code]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _by_day(table: pa.Table) -> dict[date, tuple[int, int]]:
    """Where each day's rows lie in a table ordered by day: day to (start, length)."""
    runs = pc.run_end_encode(table["day"].combine_chunks())
    ends = runs.run_ends.to_pylist()
    starts = [0, *ends[:-1]]
    return {
        day: (start, end - start)
        for day, start, end in zip(runs.values.to_pylist(), starts, ends, strict=True)
    }


def _as_declared(spec: ModelSpec, days: list[date]) -> None:
    """Raises unless the days are those that model.yaml says the data cover."""
    starts, ends = spec.data.starts, spec.data.ends
    stray = next((day for day in days if not starts <= day < ends), None)
    if stray is not None:
        raise BadData(
            f"the source of {spec.name} has rows on {stray}, but model.yaml says that its data cover "
            f"{starts} up to, not including, {ends}"
        )
    known = set(days)
    covered = (starts + timedelta(days=number) for number in range((ends - starts).days))
    lacking = next((day for day in covered if day not in known), None)
    if lacking is not None and not spec.data.empty_days:
        raise MissingDay(
            f"the source of {spec.name} has no rows on {lacking}, a day that model.yaml says its data cover"
        )


def _partitions(home: Path) -> dict[str, Path]:
    """The files of all snapshots of a model, by the hash that their manifest gives them."""
    found = {}
    for path in home.glob("*/manifest.json"):
        try:
            days = json.loads(path.read_text())["days"]
            entries = [(day, kind, of[kind]["sha256"]) for day, of in days.items() for kind in KINDS]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # what cannot be read cannot be shared
        found.update({digest: path.parent / kind / f"{day}.parquet" for day, kind, digest in entries})
    return found


def _write_partition(path: Path, content: bytes, earlier: Path | None) -> bool:
    """Puts the content at the path; True if it is the file of an earlier snapshot, so nothing was written."""
    try:
        if earlier is not None and earlier.read_bytes() == content:
            os.link(earlier, path)
            return True
    except OSError:  # the file is gone, or its file system has no links
        pass
    path.write_bytes(content)
    return False


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _columns(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment.astimezone(UTC), pa.timestamp("us", tz="UTC"))


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released by the system even when this process is killed
        yield
