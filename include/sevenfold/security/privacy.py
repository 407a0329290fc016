"""Whether logs keep what they must not: raw personal features, bodies of requests, anything for too long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from sevenfold.answers import FILE as ACCESS_LOG
from sevenfold.security.check import Check
from sevenfold.spec import ModelSpec

ACCESS_FIELDS = frozenset(
    {
        *(
            "t",
            "id",
            "client",
            "method",
            "path",
            "status",
            "flags",
            "details",
            "us",
            "upstream_ms",
            "received",
        ),
        *("sent", "cluster", "host", "attempts", "candidate", "route"),
    }
)
"""What the gateway writes of a request: who, what for, how it ended. Never what it said."""
DAY_S = 86_400.0


def privacy(spec: ModelSpec, logs: Path, now: float | None = None) -> Check:
    """The model's rule on its prediction, feedback and access logs.

    Args:
        spec: names the personal features and the days for which logs are kept.
        logs: the folder of logs.
        now: seconds since 1970, for the age of files.
    """
    rule, files = spec.privacy, logs_of(logs, spec.name)
    problems = [
        f"{_name(path, logs)} keeps {name} in plain" for path in files for name in _plain(path, rule.personal)
    ]
    oldest = (time.time() if now is None else now) - rule.retention_days * DAY_S
    old = [path for path in files if path.stat().st_mtime < oldest]
    problems += [f"{_name(path, logs)} is older than {rule.retention_days} days" for path in old]
    access = logs / ACCESS_LOG
    fields = _fields(access)
    problems += [f"{ACCESS_LOG} has the field {field}" for field in sorted(fields - ACCESS_FIELDS)]
    looked_at = len(files) + access.is_file()
    return Check("privacy_violations", "Logs keep the privacy rule", "files", looked_at, tuple(problems))


def logs_of(logs: Path, model: str) -> list[Path]:
    """The files in which requests and labels of a model are kept."""
    folders = (logs / "predictions" / model, logs / "feedback" / model)
    return sorted(path for folder in folders for path in folder.rglob("*.jsonl"))


def expire(spec: ModelSpec, logs: Path, now: float | None = None) -> list[Path]:
    """Deletes the logs whose last line is older than the model's retention, and returns them."""
    oldest = (time.time() if now is None else now) - spec.privacy.retention_days * DAY_S
    gone = [path for path in logs_of(logs, spec.name) if path.stat().st_mtime < oldest]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _plain(path: Path, personal: Iterable[str]) -> Iterator[str]:
    """The personal features that a prediction log keeps as they came: its first line names the columns."""
    wanted = set(personal)
    if not wanted:
        return
    with path.open("rb") as opened:
        first = opened.readline()
    try:
        columns = orjson.loads(first).get("columns", {})
    except (orjson.JSONDecodeError, AttributeError):
        return
    yield from sorted(wanted & {name for names in columns.values() for name in names})


def _fields(path: Path) -> set[str]:
    """The fields of the newest lines of the access log."""
    if not path.is_file():
        return set()
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - 65_536))
        lines = opened.read().split(b"\n")[1:-1]
    found: set[str] = set()
    for line in lines:
        try:
            found |= set(orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError):
            found.add("(a line that is no JSON)")
    return found


def _name(path: Path, logs: Path) -> str:
    return str(path.relative_to(logs))
