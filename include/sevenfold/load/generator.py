"""Starts Locust on a schedule of requests and brings back what each of them met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path

from sevenfold.errors import SevenfoldError
from sevenfold.load.result import LoadResult

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
LEAD_S = 0.5
BEHIND_S = 0.5
"""A queue that nothing above the knee works off: nobody waits for longer to be told."""
START_LIMIT_S = 60.0
"""Locust's imports take 2 CPU seconds; on a busy machine many more."""


class LoadError(SevenfoldError):
    """The load generator could not do its work."""

    retry = True


@dataclass(frozen=True)
class Kind:
    """One kind of request: its name in the report, where it goes, and the bodies that are sent in turn."""

    name: str
    path: str
    bodies: Sequence[str]


@dataclass(frozen=True)
class Step:
    """A stretch of a schedule with one offered rate (requests a second), from `start` to `end` seconds."""

    name: str
    rate: float
    start: float
    end: float

    def later(self, seconds: float) -> Step:
        """The same, so many seconds later."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


@dataclass(frozen=True)
class Schedule:
    """When each request is due, in seconds from the start and rising, of which kind it is, and the steps."""

    due: tuple[float, ...]
    kind: tuple[int, ...]
    steps: tuple[Step, ...]

    @classmethod
    def steady(
        cls, rate: float, seconds: float, kinds: Sequence[int] = (0,), name: str = "steady"
    ) -> Schedule:
        """One step: `rate` requests a second at equal distances, the kinds in turn."""
        number = max(1, round(rate * seconds))
        return cls(
            tuple(index / rate for index in range(number)),
            tuple(kinds[index % len(kinds)] for index in range(number)),
            (Step(name, rate, 0.0, number / rate),),
        )

    @classmethod
    def ramp(
        cls, rates: Sequence[float], seconds: float, kinds: Sequence[int] = (0,), name: str = "ramp"
    ) -> Schedule:
        """One step of so many seconds for each rate."""
        first, *others = (cls.steady(rate, seconds, kinds, name) for rate in rates)
        return first.then(*others)

    @property
    def seconds(self) -> float:
        """How long it takes to send everything."""
        return self.steps[-1].end

    def then(self, *others: Schedule) -> Schedule:
        """The others after this one, each where the one before it ends."""
        whole = self
        for other in others:
            offset = whole.seconds
            whole = Schedule(
                (*whole.due, *(offset + due for due in other.due)),
                (*whole.kind, *other.kind),
                (*whole.steps, *(step.later(offset) for step in other.steps)),
            )
        return whole


def generate(
    host: str,
    kinds: Sequence[Kind],
    schedule: Schedule,
    *,
    folder: Path,
    headers: Mapping[str, str] | None = None,
    users: int = 64,
    timeout_s: float = 2.0,
    explore_from: float = inf,
) -> LoadResult:
    """Posts the requests of `schedule` to `host`, each at its time, whatever the answers to others take.

    Args:
        host: scheme, name and port, as in http://127.0.0.1:18000.
        kinds: what to post.
        schedule: when to post what. The run ends when all are answered, `timeout_s` later at most.
        folder: gets `report.html` and the samples.
        headers: headers of each request, such as the caller's token.
        users: most requests that can be under way at once.
        timeout_s: a request that takes longer has failed.
        explore_from: from this second of the schedule on the run ends as soon as a request leaves
            `BEHIND_S` too late, and what was not due by then is left out: a ramp goes as far as it can.

    Raises:
        LoadError: Locust did not run or left no samples.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    samples, report = folder / "samples.json", folder / "report.html"
    samples.unlink(missing_ok=True)
    plan = {
        "host": host.rstrip("/"),
        "due": schedule.due,
        "kind": schedule.kind,
        "users": users,
        "lead_s": LEAD_S,
        "timeout_s": timeout_s,
        "explore_from": min(explore_from, schedule.seconds),
        "behind_s": BEHIND_S,
        "headers": {"content-type": "application/json", **(headers or {})},
        "kinds": [asdict(kind) for kind in kinds],
        "samples": str(samples),
    }
    file = folder / "plan.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(plan))
    limit = LEAD_S + schedule.due[-1] + timeout_s + 1.0
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["-u", str(users), "-r", str(users), "-t", f"{limit:.0f}s", "--stop-timeout", "0"]
    command += ["--html", str(report), "--only-summary", "--exit-code-on-error", "0"]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "SEVENFOLD_LOAD_PLAN": str(file)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=limit + START_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"the load generator did not end within {limit + START_LIMIT_S:.0f} s") from None
    finally:
        file.unlink()  # it holds the caller's token
    if not samples.exists():
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise LoadError(f"Locust ended with code {done.returncode} and left no samples: {last}")
    return LoadResult.read(samples, [kind.name for kind in kinds], report)
