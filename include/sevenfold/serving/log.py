"""The prediction log and the feedback log: one line a request, appended at once, read back as tables.

A line is one write(2) to a file opened with O_APPEND before the answer leaves: a killed server loses nothing
that it answered. Each process has its own files (see log_files) in `<logs>/predictions/<model>/<candidate>`,
whose first line names the columns. A request is kept byte for byte as it came, so nothing can be lost or
rounded between what was asked and what monitoring reads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import gmtime, strftime
from time import time as seconds_now
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from sevenfold.data.predictions import column, together
from sevenfold.errors import SevenfoldError
from sevenfold.model.tasks import BINARY, Output
from sevenfold.serving import log_files
from sevenfold.serving.protocol import Signature, check_request

if TYPE_CHECKING:
    import pyarrow as pa

    from sevenfold.serving.pseudonyms import Pseudonyms
    from sevenfold.serving.redaction import Redaction


class AppendLog:
    """A new file that grows by whole lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0

    def append(self, *parts: bytes) -> None:
        """Writes one line, made of `parts`, and its newline at once, or nothing.

        Raises:
            OSError: the disk is full or gone; what was written of the line is taken back.
        """
        size = sum(map(len, parts)) + 1
        try:
            if os.writev(self._file, (*parts, b"\n")) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += size

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


class ProcessLog:
    """The files of this process in a folder, one after the other. Each begins with a line `head`, if any."""

    def __init__(self, folder: Path, head: Callable[[], bytes] = bytes) -> None:
        self._folder, self._head = folder, head
        self._log = self._begun()

    def turn(self) -> None:
        """Begins a new file if it is time to.

        Raises:
            OSError: it could not be begun.
        """
        if seconds_now() >= self._until:
            before, self._log = self._log, self._begun()
            before.close()

    def append(self, *parts: bytes) -> None:
        """Writes one line, made of `parts`, or nothing.

        Raises:
            OSError: it could not be written.
        """
        self._log.append(*parts)

    def _begun(self) -> AppendLog:
        now, writer = datetime.fromtimestamp(seconds_now(), UTC), f"{log_files.host()}-{os.getpid()}"
        head = self._head()
        log = AppendLog(log_files.named(self._folder, writer, now))
        if head:
            log.append(head)
        self._until = (now + log_files.LONGEST).timestamp()
        return log


_MILLISECONDS = [f".{millisecond:03d}+00:00" for millisecond in range(1000)]


def _text(moment: datetime) -> str:
    """A time, UTC, as `isoformat(timespec="milliseconds")` writes it, in a fifth of the time."""
    return orjson.dumps(moment)[1:20].decode() + _MILLISECONDS[moment.microsecond // 1000]


class _Clock:
    """The time as ISO 8601, UTC, with milliseconds; the part that stays the same is made once a second."""

    def __init__(self) -> None:
        self._second, self._text = -1, ""

    def __call__(self) -> str:
        now = seconds_now()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        return self._text + _MILLISECONDS[int((now - second) * 1000)]


class PredictionLog:
    """What one server process answered; of personal features no more than its pseudonyms say.

    `pseudonyms` is asked for the ones that hold when a file is begun; None: no feature is personal.
    """

    def __init__(
        self,
        logs: Path,
        model: str,
        candidate: str,
        signature: Signature,
        pseudonyms: Callable[[], Pseudonyms | None] = lambda: None,
    ) -> None:
        self._candidate, self._clock, self._signature = candidate, _Clock(), signature
        self._pseudonyms = pseudonyms
        self._redaction: Redaction | None = None
        self._log = ProcessLog(logs / "predictions" / model / candidate, self._head)

    def _head(self) -> bytes:
        """The first line of a file."""
        signature = self._signature
        try:
            hidden = self._pseudonyms()
        except SevenfoldError as error:
            raise OSError(str(error)) from error
        if hidden:
            from sevenfold.serving.redaction import Redaction  # reads requests as a server does

            self._redaction = Redaction(signature, hidden)
        kept = self._redaction.kept if self._redaction else signature
        said: dict[str, Any] = {
            "columns": {"numeric": kept.numeric, "categorical": kept.categorical},
            "output": signature.output.name,
        }
        return orjson.dumps(said | ({"personal": self._redaction.hashed} if self._redaction else {}))

    def append(
        self,
        *,
        time: datetime | None,
        request_id: str,
        arm: str,
        prediction: np.ndarray[Any, np.dtype[np.float32]],
        microseconds: int,
        request: bytes,
    ) -> None:
        """Logs one answered request.

        Args:
            time: when the event happened, UTC; now if the caller did not say.
            request_id: the gateway's x-request-id, the same for the request and its mirror.
            arm: champion, challenger, shadow, or the slot of a one-off deployment.
            prediction: float32 [n] or [n, K], what was answered.
            microseconds: service time.
            request: the body that was answered.

        Raises:
            OSError: the line could not be written.
        """
        self._log.turn()
        now = self._clock()
        head: dict[str, Any] = {
            "t": _text(time) if time else now,
            "w": now,
            "rid": request_id,
            "arm": arm,
            "candidate": self._candidate,
            "p": prediction,
            "us": microseconds,
        }
        if self._redaction:
            head["personal"], request = self._redaction(request)
        about = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
        self._log.append(about[:-1], b',"request":', _one_line(request), b"}")  # the body is not copied


class FeedbackLog:
    """Labels that came back to one server process."""

    def __init__(self, logs: Path, model: str) -> None:
        self._log = ProcessLog(logs / "feedback" / model)

    def append(self, body: bytes) -> None:
        """Logs one feedback request.

        Raises:
            OSError: the line could not be written.
        """
        line = {"w": datetime.now(UTC).isoformat(timespec="milliseconds")}
        self._log.turn()
        self._log.append(orjson.dumps(line | {"feedback": orjson.Fragment(_one_line(body))}))


def _one_line(document: bytes) -> bytes:
    """The same JSON without line breaks, which JSON knows only as white space between values."""
    if b"\n" in document or b"\r" in document:
        return document.replace(b"\r", b" ").replace(b"\n", b" ")
    return document


def predictions(
    logs: Path,
    model: str,
    candidate: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """What was answered with start <= time < end, one row a prediction, in order of time.

    Columns: id (text; null where the caller gave none), time and wall (UTC; when it happened, when it was
    answered), request (x-request-id), row (its place in the request), arm, candidate, prediction,
    service_us (of the whole request), and the model's columns as they were asked (float32 and text, null
    for missing), or their hashes if they are personal. A request that the gateway tried twice on one
    candidate and arm counts once.

    Args:
        logs: the folder of all logs, `settings().logs`.
        model: whose predictions.
        candidate: only this candidate's; all of the model's otherwise.
        start: no earlier than this, by the time of the event.
        end: before this.
    """

    seen: set[tuple[str, str, str]] = set()
    tables = [_prediction_table([], Signature((), ()))]
    for file in sorted((logs / "predictions" / model).glob(f"{candidate or '*'}/*.jsonl")):
        entries: list[dict[str, Any]] = []
        signature, personal = Signature((), ()), list[str]()
        for line in _lines(file):
            if line.startswith(b'{"columns":'):
                said = orjson.loads(line)
                names, output = said["columns"], Output(said.get("output", BINARY.output.name))
                signature = Signature(tuple(names["numeric"]), tuple(names["categorical"]), output)
                personal = said.get("personal", [])
            elif _within(line, start, end) and (entry := _parsed(line)) is not None:
                key = (entry["rid"], entry["arm"], entry["candidate"])
                if key not in seen:
                    seen.add(key)
                    entries.append(entry)
        if entries:
            tables.append(_prediction_table(entries, signature, personal))
    order = [(name, "ascending") for name in ("time", "request", "row")]
    return together(tables).sort_by(order)


def feedback(logs: Path, model: str, start: datetime | None = None, end: datetime | None = None) -> pa.Table:
    """Labels that became known with start <= known_at < end: id, label, known_at (UTC), wall (UTC).

    A label that came more than once counts once, with what was known last.
    """
    import pyarrow as pa

    latest: dict[str, tuple[datetime, float, datetime]] = {}
    for file in sorted((logs / "feedback" / model).glob("*.jsonl")):
        for entry in filter(None, map(_parsed, _lines(file))):
            wall = datetime.fromisoformat(entry["w"])
            for label in entry["feedback"]["labels"]:
                known = datetime.fromisoformat(label["known_at"]).astimezone(UTC)
                before = latest.get(label["id"])
                if before is None or before[0] <= known:
                    latest[label["id"]] = (known, float(label["label"]), wall)
    rows = [
        (name, label, known, wall)
        for name, (known, label, wall) in latest.items()
        if (start is None or known >= start) and (end is None or known < end)
    ]
    types = {"id": pa.string(), "label": pa.float64(), "known_at": _utc(), "wall": _utc()}
    columns = zip(types.items(), zip(*rows, strict=True) if rows else [()] * len(types), strict=True)
    table = pa.table({name: pa.array(values, type=kind) for (name, kind), values in columns})
    return table.sort_by([("known_at", "ascending"), ("id", "ascending")])


def _lines(file: Path) -> Iterator[bytes]:
    """Whole lines; a last one without its newline was torn by a full disk or a power cut."""
    with file.open("rb") as opened:
        for line in opened:
            if line.endswith(b"\n"):
                yield line


def _within(line: bytes, start: datetime | None, end: datetime | None) -> bool:
    """Compares the time at the head of a line as text, which spares parsing what is not asked for."""
    stamp = line[6:35].decode("ascii", "replace")
    return (start is None or stamp >= _stamp(start)) and (end is None or stamp < _stamp(end))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry


def _utc() -> Any:
    import pyarrow as pa

    return pa.timestamp("us", tz="UTC")


def _prediction_table(
    entries: list[dict[str, Any]], signature: Signature, personal: Sequence[str] = ()
) -> pa.Table:
    """The rows of the requests that one process answered."""
    import pyarrow as pa

    requests = [check_request(entry["request"], signature) for entry in entries]
    counts = [request.rows for request in requests]

    def per_row(values: Iterable[Any], kind: Any) -> Any:
        return pa.array([value for value, n in zip(values, counts, strict=True) for _ in range(n)], type=kind)

    nameless: list[str | None] = [None]
    answered = [np.asarray(entry["p"], np.float32) for entry in entries]
    # without a row nobody knows how many numbers one has: a column of nulls goes with every other
    answers = column(np.concatenate(answered)) if answered else pa.nulls(0)
    columns = {
        "id": pa.array(chain.from_iterable(r.ids or nameless * r.rows for r in requests), type=pa.string()),
        "time": per_row((datetime.fromisoformat(entry["t"]) for entry in entries), _utc()),
        "wall": per_row((datetime.fromisoformat(entry["w"]) for entry in entries), _utc()),
        "request": per_row((entry["rid"] for entry in entries), pa.string()),
        "row": pa.array(chain.from_iterable(range(n) for n in counts), type=pa.int64()),
        "arm": per_row((entry["arm"] for entry in entries), pa.string()),
        "candidate": per_row((entry["candidate"] for entry in entries), pa.string()),
        "prediction": answers,
        "service_us": per_row((entry["us"] for entry in entries), pa.int64()),
    }
    if requests:
        numeric = np.concatenate([request.numeric for request in requests])
        for index, name in enumerate(signature.numeric):
            columns[name] = pa.array(numeric[:, index], from_pandas=True)  # NaN becomes null
        for index, name in enumerate(signature.categorical):
            texts = chain.from_iterable(request.categorical[index] for request in requests)
            columns[name] = pa.array(texts, type=pa.string())
        for name in personal:
            hashes = chain.from_iterable(entry["personal"][name] for entry in entries)
            columns[name] = pa.array(hashes, type=pa.string())
    return pa.table(columns)
