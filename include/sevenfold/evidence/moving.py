"""Moving all evidence and its artifacts to another database and another storage, from a laptop to a cluster.

Artifacts go first, and each is read back. Then all rows go in one transaction, are read back too, and are
verified as a whole before it is committed. A move that was killed has left no row, and is simply made again.
The old store is not changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Table, func, insert, select, text

from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.artifacts import ArtifactStore
from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import metadata, numbered
from sevenfold.evidence.verify import problems

CHUNK = 1_000
EVERY = 200
"""Rows that are written at once, and artifacts between two lines of progress."""
MOVED = "evidence moved"
"""What the audit log of the new store calls it."""


class CannotMove(SevenfoldError):
    """The evidence cannot be moved, or would not arrive as it was. Nothing of it is in the new store."""


@dataclass(frozen=True)
class Moved:
    """What has arrived: rows by table, artifacts that are there now, and how many of them came now."""

    rows: dict[str, int]
    artifacts: int
    copied: int


def move(
    source: Store,
    target: Store,
    artifacts: tuple[ArtifactStore, ArtifactStore] | None,
    by: str,
    say: Callable[[str], None] = lambda line: None,
) -> Moved:
    """Moves everything, and returns when it has arrived and was verified there.

    Nobody can write to the old store meanwhile: they wait, and what they then write has not moved.

    Args:
        artifacts: from where and to where; None leaves them where they are.

    Raises:
        CannotMove: the evidence is not as it was written, here or there; or there is evidence already.
        NotAllowed: whoever moves does not own the tables there.
    """
    if source.name == target.name:
        raise CannotMove(f"{source.name} is where the evidence is already.")
    source.require_prepared()
    target.prepare()
    with source.writing() as here:
        _take_time(here)
        _require_sound(here, source, artifacts[0] if artifacts else None, "before")
        say(f"{source.name}: all evidence is as it was written")
        with target.reading() as there:
            _require_empty(there, target)
        arrived, copied = _copy_artifacts(*artifacts, say) if artifacts else (0, 0)
        with target.writing() as there:
            _require_empty(there, target)
            _take_time(there)
            rows = {table.name: _copy_rows(here, there, table) for table in metadata.sorted_tables}
            for table in metadata.sorted_tables:
                _require_same(here, there, table)
            audit.append(there, by, MOVED, {"from": source.name, "rows": rows})
            _require_sound(there, target, artifacts[1] if artifacts else None, "after")
    return Moved(rows, arrived, copied)


def _take_time(connection: Connection) -> None:
    """Artifacts are read from afar while the transaction waits, for longer than a writer usually may."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _require_sound(connection: Connection, store: Store, artifacts: ArtifactStore | None, when: str) -> None:
    found = problems(connection, store, None, artifacts)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise CannotMove(f"Nothing was moved: {when} the move {store.name} is not sound: {found[0]}{more}")


def _require_empty(connection: Connection, store: Store) -> None:
    for table in metadata.sorted_tables:
        count = connection.scalars(select(func.count()).select_from(table)).one()
        if count:
            raise CannotMove(
                f"{store.name} holds evidence already ({count:,} rows of {table.name}): "
                "move into an empty database; two histories cannot become one."
            )


def _copy_artifacts(
    source: ArtifactStore, target: ArtifactStore, say: Callable[[str], None]
) -> tuple[int, int]:
    """How many are there now, and how many had to be copied."""
    paths, copied = source.paths(), 0
    for number, path in enumerate(paths, start=1):
        digest = source.sha256(path)
        if target.sha256(path) != digest:
            target.write(path, source.read(path))
            copied += 1
            if target.sha256(path) != digest:
                raise CannotMove(f"Nothing was moved: {path} did not arrive in {target.url} as it was.")
        if number % EVERY == 0 or number == len(paths):
            say(f"{number:,} of {len(paths):,} artifacts are in {target.url}")
    return len(paths), copied


def _copy_rows(source: Connection, target: Connection, table: Table) -> int:
    """Copies a table in the order of its key; what is written there later goes on counting from its end."""
    query = select(table).order_by(*table.primary_key.columns)
    count = 0
    for rows in source.execute(query).mappings().partitions(CHUNK):
        target.execute(insert(table), [dict(row) for row in rows])
        count += len(rows)
    column = numbered(table)
    if count and column is not None and target.dialect.name == "postgresql":
        last = select(func.max(table.c[column])).scalar_subquery()
        target.execute(select(func.setval(func.pg_get_serial_sequence(table.name, column), last)))
    return count


def _require_same(source: Connection, target: Connection, table: Table) -> None:
    if _digest(source.execute(select(table))) != _digest(target.execute(select(table))):
        raise CannotMove(f"Nothing was moved: a row of {table.name} did not arrive as it was.")


def _digest(rows: Iterable[Row[tuple[object, ...]]]) -> str:
    """Of all rows, in whatever order a database gives them."""
    lines = sorted(json.dumps(list(row), default=str) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
