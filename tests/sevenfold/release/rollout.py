"""The real thing that the fault tests kill: a roll-out on a store, artifacts and a router, all in files."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool
from tests.sevenfold.evidence_world import MODEL, OPERATOR, World, analysis

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.artifacts import ArtifactStore
from sevenfold.evidence.store import Store, open_store
from sevenfold.gates.conclude import conclude
from sevenfold.release import release
from sevenfold.release.promotion import PromotionEnded
from sevenfold.release.reconcile import reconcile
from sevenfold.release.release_law import OnHold
from sevenfold.release.release_row import NotClaimed, SlotBusy
from sevenfold.release.traffic import Traffic

REPORT = "report.html"
"""Copied into the artifact store: opening it is the point at which its copy is half there."""
WRITING = os.O_WRONLY | os.O_RDWR
PATIENCE_S = 20.0
"""How long a roll-out waits for the end of another one."""
WAITS = 75
"""Exit status of a roll-out that waited in vain."""


class Older(SevenfoldError):
    """The router is of a later generation."""


class FileRouter:
    """A router whose split is a file, replaced in one step, and a journal of the generations it had."""

    def __init__(self, home: Path) -> None:
        self.file, self.journal = home / "router.json", home / "router.log"

    def traffic(self, model: str) -> Traffic | None:
        """The split in force."""
        return Traffic(**json.loads(self.file.read_text())) if self.file.exists() else None

    def apply(self, traffic: Traffic) -> None:
        """Takes the split unless it is older than the one in force."""
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            there = self.traffic(traffic.model)
            if there is not None and there.generation > traffic.generation:
                raise Older(f"generation {traffic.generation} is older than {there.generation}")
            if there is not None and there.generation == traffic.generation:
                return
            half = self.file.with_suffix(f".{os.getpid()}")
            half.write_text(json.dumps(asdict(traffic)))
            with self.journal.open("a") as journal:
                journal.write(f"{traffic.generation}\n")
            half.replace(self.file)


def opened(home: Path) -> Store:
    """The store of a history."""
    return open_store(f"sqlite:///{home}/evidence.db", home / "keys")


def roll_out(home: Path, promotion_id: str, verdict: str, patience_s: float = PATIENCE_S) -> None:
    """A production promotion from whatever an earlier try has left to its end."""
    store, router = opened(home), FileRouter(home)
    until = time.monotonic() + patience_s
    ArtifactStore(f"file://{home}/artifacts", home / "cache").put(home / REPORT)
    while (promotion := store.promotion(promotion_id)).state == "running":
        try:
            release.claim(store, promotion_id, OPERATOR)
            reconcile(store, MODEL, router)
            release.set_share(store, promotion_id, 0.5, OPERATOR)
        except OnHold:  # after another one that was proven bad: a person looks, and lets the next one come
            release.release_hold(store, MODEL, OPERATOR, "looked at")
            continue
        except (SlotBusy, NotClaimed, PromotionEnded):
            if time.monotonic() > until:
                raise
            time.sleep(0.005)
            continue
        reconcile(store, MODEL, router)
        World(store).measure(promotion, interval="10:00")
        conclude(store, promotion_id, analysis(promotion, verdict))
        release.settle(store, promotion_id, OPERATOR)
    reconcile(store, MODEL, router)


def roll_back(home: Path, champion: str) -> None:
    """An operator who does not want `champion` any more."""
    store = opened(home)
    release.roll_back(store, MODEL, OPERATOR, "complaints", champion)
    reconcile(store, MODEL, FileRouter(home))


def forked(
    work: Callable[[], None], die_at: int | None = None, finely: bool = False, count: Path | None = None
) -> int:
    """Runs `work` in a process of its own and returns its pid; SIGKILL hits it at its `die_at`-th point.

    The points are where what is kept can differ: before each commit, after each transaction, before each
    change of a file; and, if `finely`, before each statement of a write transaction too. Without `die_at`
    their number is written to `count`.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        points = _watch(die_at, finely)
        work()
        if count is not None:
            count.write_text(str(points[0]))
        os._exit(0)
    except SlotBusy:
        os._exit(WAITS)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def ended(pid: int) -> int:
    """Exit status of a process: 0, 1, WAITS, or -9 for one that was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _watch(die_at: int | None, finely: bool) -> list[int]:
    seen = [0]

    def point() -> None:
        seen[0] += 1
        if seen[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_statement(connection: Any, *_: object) -> None:
        if finely and _writes(connection):
            point()

    def on_commit(connection: Any) -> None:
        if _writes(connection):
            connection.info["wrote"] = True
            point()

    def on_return(_: object, record: Any) -> None:
        if record.info.pop("wrote", False):
            point()

    def on_file(name: str, arguments: tuple[Any, ...]) -> None:
        changes = name in ("os.rename", "os.link", "os.remove", "os.mkdir")
        opens = name == "open" and isinstance(arguments[2], int)
        if changes or (opens and (arguments[2] & WRITING or str(arguments[0]).endswith(REPORT))):
            point()

    event.listen(Engine, "before_cursor_execute", on_statement)
    event.listen(Engine, "commit", on_commit)
    event.listen(Pool, "checkin", on_return)
    sys.addaudithook(on_file)
    return seen


def _writes(connection: Any) -> bool:
    return bool(connection.get_execution_options().get("sevenfold_write"))
