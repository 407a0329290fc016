"""Predictions joined with what became of them: one Parquet file a day, matured days only.

A day is matured when its last row is so old that its label must have come. Younger rows are left out, all
of them: labels that come early are not like those that come late (a punctual flight lands before a late one),
so a mean over young rows is wrong even where many labels are known. A row whose label never came stays.

    <folder>/2013-06-18.parquet    the prediction log's columns, and label and known_at
    <folder>/read.json             how far each log file was read, and days that are not matured yet
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sevenfold.data.predictions import together
from sevenfold.data.weeks import DAY, midnight
from sevenfold.serving import log

LATE_LABELS = timedelta(days=14)
"""A label that comes so long after its day was joined is still added to it."""
UTC_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Joined:
    """What one call of `update` did."""

    days: tuple[date, ...]
    """Days written."""
    rows: int
    """Predictions on them."""
    labelled: int
    """Predictions on them whose label is known."""
    waiting: int
    """Days that have predictions but are not matured."""


@dataclass
class _Read:
    """What was read of the logs: bytes per file, and days seen that are still to be joined."""

    bytes: dict[str, int] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


def folder(shared: Path, model: str) -> Path:
    """Where the joined days of a model lie."""
    return shared / "monitoring" / model / "joined"


def matured(as_of: datetime, maturity: timedelta) -> datetime:
    """The end of the last day all of whose labels must be known `as_of`."""
    return midnight((as_of - maturity).astimezone(UTC).date())


def update(folder: Path, logs: Path, model: str, as_of: datetime, maturity: timedelta) -> Joined:
    """Joins the days that have matured by `as_of` and on which the log holds predictions not joined before.

    Safe to call again and to kill at any moment: a day's file is replaced whole, and what was read of the
    logs is remembered last. A day that gets predictions later, by a replay of it, is joined anew. Labels that
    became known after `as_of` are joined too, for `read` hides them from whoever asks as of then.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = (
        _Read(**json.loads((folder / "read.json").read_text()))
        if (folder / "read.json").exists()
        else _Read()
    )
    sizes, seen = _new_days(logs / "predictions" / model, state.bytes)
    days = sorted({date.fromisoformat(day) for day in state.waiting} | seen)
    end = matured(as_of, maturity)
    due = [day for day in days if midnight(day) < end]
    labels = log.feedback(logs, model).select(["id", "label", "known_at"])
    written = {}
    for first, last in _runs(due):
        rows = log.predictions(logs, model, start=midnight(first), end=midnight(last) + DAY)
        for day, table in _by_day(_once(rows)):
            written[day] = _write(folder, day, _label(table, labels))
    for day in _days(folder, end - LATE_LABELS, end):
        if day not in written and (table := _relabelled(folder, day, labels)) is not None:
            written[day] = _write(folder, day, table)
    late = [day.isoformat() for day in days if day not in due]
    _replace(folder / "read.json", json.dumps({"bytes": sizes, "waiting": late}).encode())
    rows_written, labelled = (
        (sum(counts) for counts in zip(*written.values(), strict=True)) if written else (0, 0)
    )
    return Joined(tuple(sorted(written)), rows_written, labelled, len(late))


def expire(folder: Path, oldest: datetime) -> int:
    """Deletes what was predicted before `oldest`, and returns how many predictions that were.

    By the clock on the wall, as logs are kept: their own time may be of any year. A day of which nothing is
    left goes whole. Safe to kill and to repeat.
    """
    gone = 0
    for path in older(folder, oldest):
        rows = pq.read_table(path, partitioning=None)
        kept = rows.filter(pc.greater_equal(rows["wall"], pa.scalar(oldest, UTC_TIME)))
        gone += rows.num_rows - kept.num_rows
        if kept.num_rows:
            _write(folder, date.fromisoformat(path.stem), kept)
        else:
            path.unlink(missing_ok=True)
    return gone


def older(folder: Path, than: datetime) -> list[Path]:
    """The days that hold predictions made before `than`."""
    return [path for path in all_days(folder) if _first(path) < than]


def all_days(folder: Path) -> list[Path]:
    """The files of all days."""
    return sorted(folder.glob("????-??-??.parquet"))


def read(
    folder: Path,
    as_of: datetime,
    maturity: timedelta,
    start: datetime | None = None,
    columns: Sequence[str] | None = None,
    arms: Sequence[str] | None = None,
) -> pa.Table:
    """The matured rows as known `as_of`, in order of time, from `start` on.

    `columns` default to all; time, arm, candidate, label and known_at always come along. Without `arms` all
    arms come, one-off deployments of a single environment included.
    """
    end = matured(as_of, maturity)
    always = ("time", "arm", "candidate", "label", "known_at")
    wanted = list(dict.fromkeys([*always, *columns])) if columns is not None else None
    tables = [
        pq.read_table(folder / f"{day}.parquet", columns=wanted, partitioning=None)
        for day in _days(folder, start or datetime.min.replace(tzinfo=UTC), end)
    ]
    if not tables:
        kinds = {"time": UTC_TIME, "arm": pa.string(), "candidate": pa.string(), "label": pa.float64()}
        return pa.schema({**kinds, "known_at": UTC_TIME}).empty_table()
    rows = together(tables)
    if arms is not None:
        rows = rows.filter(pc.is_in(rows["arm"], pa.array(arms, pa.string())))
    unknown_yet = pc.fill_null(pc.greater(rows["known_at"], pa.scalar(as_of, UTC_TIME)), False)
    for name in ("label", "known_at"):
        place = rows.column_names.index(name)
        values = pc.if_else(unknown_yet, pa.scalar(None, rows[name].type), rows[name])
        rows = rows.set_column(place, name, values)
    return rows


def _new_days(folder: Path, known: dict[str, int]) -> tuple[dict[str, int], set[date]]:
    """How long each log file is now, and the days of the events that were added since `known`."""
    sizes, days = {}, set()
    for file in sorted(folder.glob("*/*.jsonl")):
        name = str(file.relative_to(folder))
        position = known.get(name, 0)
        with file.open("rb") as opened:
            if position > file.stat().st_size:
                position = 0  # a new file of the same name
            opened.seek(position)
            for line in opened:
                if not line.endswith(b"\n"):
                    break  # being written now, or torn: read again next time
                position += len(line)
                if (day := _day(line)) is not None:
                    days.add(day)
        sizes[name] = position
    return sizes, days


def _day(line: bytes) -> date | None:
    try:
        return datetime.fromisoformat(orjson.loads(line)["t"]).astimezone(UTC).date()
    except (ValueError, KeyError, TypeError):
        return None  # the line that names the columns, or a torn one


def _runs(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Days in order as runs of consecutive ones: first and last of each."""
    first = last = None
    for day in days:
        if last is not None and first is not None and day - last > DAY:
            yield first, last
            first = day
        first, last = first or day, day
    if first is not None and last is not None:
        yield first, last


def _once(rows: pa.Table) -> pa.Table:
    """Without repeated answers of one candidate, on one arm, about one id: the first one counts."""
    if not rows.num_rows:
        return rows
    rows = rows.sort_by(
        [("time", "ascending"), ("wall", "ascending"), ("request", "ascending"), ("row", "ascending")]
    )
    place = pa.array(range(rows.num_rows))
    named = rows.select(["candidate", "arm", "id"]).append_column("place", place)
    named = named.filter(pc.is_valid(named["id"]))
    first = named.group_by(["candidate", "arm", "id"]).aggregate([("place", "min")])["place_min"]
    keep = pc.or_(pc.is_null(rows["id"]), pc.is_in(place, first.combine_chunks()))
    return rows.filter(keep)


def _by_day(rows: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    days = rows["time"].cast(pa.date32())
    for day in pc.unique(days).to_pylist():
        yield day, rows.filter(pc.equal(days, pa.scalar(day, pa.date32())))


def _label(rows: pa.Table, labels: pa.Table) -> pa.Table:
    """`rows` with the columns label and known_at, null where nobody knows."""
    place = pc.index_in(rows["id"], value_set=labels["id"].combine_chunks())
    place = pc.if_else(pc.is_valid(rows["id"]), place, pa.scalar(None, place.type))
    rows = rows.drop_columns([name for name in ("label", "known_at") if name in rows.column_names])
    for name in ("label", "known_at"):
        rows = rows.append_column(name, labels[name].take(place))
    return rows


def _relabelled(folder: Path, day: date, labels: pa.Table) -> pa.Table | None:
    """The day with labels that came since it was joined; None if none came."""
    path = folder / f"{day}.parquet"
    known = pq.read_table(path, columns=["id", "label"], partitioning=None)
    open_ones = known.filter(pc.is_null(known["label"]))["id"].drop_null()
    if not pc.any(pc.is_in(open_ones, labels["id"].combine_chunks())).as_py():
        return None
    rows = pq.read_table(path, partitioning=None)
    fresh = _label(rows, labels)
    for name in ("label", "known_at"):
        values = pc.coalesce(rows[name], fresh[name])
        fresh = fresh.set_column(fresh.column_names.index(name), name, values)
    return fresh


def _days(folder: Path, start: datetime, end: datetime) -> list[date]:
    """Joined days with start <= midnight of the day < end."""
    days = (date.fromisoformat(path.stem) for path in all_days(folder))
    return [day for day in days if start <= midnight(day) < end]


def _first(path: Path) -> datetime:
    """When the first prediction of a day was made."""
    first: datetime = pc.min(pq.read_table(path, columns=["wall"], partitioning=None)["wall"]).as_py()
    return first


def _write(folder: Path, day: date, rows: pa.Table) -> tuple[int, int]:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    _replace(folder / f"{day}.parquet", sink.getvalue().to_pybytes())
    return rows.num_rows, rows.num_rows - rows["label"].null_count


def _replace(path: Path, content: bytes) -> None:
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(content)
    half.replace(path)
