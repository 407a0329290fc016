"""Whether logs keep what they must not: raw personal features, bodies of requests, anything for too long."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import orjson

from sevenfold.gateway.bootstrap import LOGS as GATEWAY_LOGS
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring import answers, joined
from sevenfold.security.check import Check
from sevenfold.serving import log_files
from sevenfold.serving.pseudonyms import TOKEN

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
            "gateway",
        ),
        *("sent", "cluster", "host", "attempts", "candidate", "route"),
    }
)
"""What the gateway writes of a request: who, what for, how it ended. Never what it said."""
DAY_S = 86_400.0
NEWEST = 1 << 18
"""Bytes at the end of a file that are looked at line by line."""
DELETED_S = 2 * DAY_S
"""After this what is too old must be gone: a file has the lines of a day, and monitoring runs once a day."""


def privacy(spec: ModelSpec, logs: Path, days: Path, now: float | None = None) -> Check:
    """The model's rule on its prediction, feedback and access logs, and on the days joined from them.

    Args:
        spec: names the personal features and the days for which logs are kept.
        logs: the folder of logs.
        days: the folder of joined days.
        now: seconds since 1970, for the age of files.
    """
    rule, files = spec.privacy, logs_of(logs, spec.name)
    problems = [
        f"{_name(path, logs)} keeps {name} in plain" for path in files for name in _plain(path, rule.personal)
    ]
    today = time.time() if now is None else now
    too_old = today - rule.retention_days * DAY_S
    for path in files:
        if path.stat().st_mtime < too_old:
            problems.append(f"{_name(path, logs)} is older than {rule.retention_days} days")
        elif (first := _first(path)) is not None and first < too_old - DELETED_S:
            problems.append(f"{_name(path, logs)} has lines that are older than {rule.retention_days} days")
    for path in log_files.files(logs / answers.FOLDER):
        said = sorted(_fields(path) - ACCESS_FIELDS)
        problems += [f"{_name(path, logs)} has the field {field}" for field in said]
    kept = joined.all_days(days)
    for path in joined.older(days, datetime.fromtimestamp(too_old - DELETED_S, UTC)):
        problems.append(
            f"{path.name} (joined) has predictions that are older than {rule.retention_days} days"
        )
    looked_at = len(files) + len(kept)
    return Check("privacy_violations", "Logs keep the privacy rule", "files", looked_at, tuple(problems))


def logs_of(logs: Path, model: str) -> list[Path]:
    """The files in which requests and labels of a model are kept, and the gateways', of all models."""
    folders = (logs / "predictions" / model, logs / "feedback" / model, *(logs / n for n in GATEWAY_LOGS))
    return sorted(path for folder in folders for path in folder.rglob("*.jsonl"))


def expire(spec: ModelSpec, logs: Path, now: float | None = None) -> list[Path]:
    """Deletes the logs whose last line is older than the model's retention, and returns them.

    Of what the gateways log for all models the shortest retention decides.
    """
    oldest = (time.time() if now is None else now) - spec.privacy.retention_days * DAY_S
    gone = [path for path in logs_of(logs, spec.name) if path.stat().st_mtime < oldest]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _plain(path: Path, personal: Iterable[str]) -> list[str]:
    """The personal features that a prediction log keeps as they came: its first line names the columns.

    What stands for the others in its newest lines has to be a hash.
    """
    wanted = set(personal)
    if not wanted:
        return []
    with path.open("rb") as opened:
        first = opened.readline()
    try:
        columns = orjson.loads(first).get("columns", {})
    except (orjson.JSONDecodeError, AttributeError):
        return []
    found = wanted & {name for names in columns.values() for name in names}
    for line in _newest(path):
        try:
            hashes: dict[str, list[object]] = orjson.loads(line).get("personal", {})
        except orjson.JSONDecodeError:
            continue
        found |= {name for name, values in hashes.items() if not all(map(_is_hash, values))}
    return sorted(found)


def _is_hash(value: object) -> bool:
    return value is None or (isinstance(value, str) and TOKEN.fullmatch(value) is not None)


def _first(path: Path) -> float | None:
    """When the first line with a time was written, in seconds since 1970; None if none has one."""
    with path.open("rb") as opened:
        for line in islice(opened, 2):  # the first may name the columns
            try:
                entry = orjson.loads(line)
                return datetime.fromisoformat(entry.get("w") or entry["t"]).timestamp()
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return None


def _fields(path: Path) -> set[str]:
    """The fields of the newest lines of an access log."""
    found: set[str] = set()
    for line in _newest(path):
        try:
            found |= set(orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError):
            found.add("(a line that is no JSON)")
    return found


def _newest(path: Path) -> list[bytes]:
    """The newest whole lines of a file, without its first."""
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - NEWEST))
        return opened.read().split(b"\n")[1:-1]


def _name(path: Path, logs: Path) -> str:
    return str(path.relative_to(logs))
