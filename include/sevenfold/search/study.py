"""Where the trials of a search are kept, and who may run the next one.

The study is one per promotion and question, so a search that was killed goes on where it was. Beside a
PostgreSQL it lives there (schema `search_<environment>`), so that pods share it; on a laptop it is a journal
file. Neither holds a pickle.
"""

from __future__ import annotations

import hashlib
import os
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.database import database_url
from sevenfold.evidence.tables import search_schema
from sevenfold.model.spec import Search

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial
    from sqlalchemy import URL

HEARTBEAT_S, GRACE_S = 30, 90
"""Seconds between two signs of life of a trial in PostgreSQL, and without one after which it is given up."""

WORKER, INCUMBENT = "worker", "incumbent"
"""User attributes of a trial: who runs it, and whether it tries the settings as they are."""


@dataclass(frozen=True)
class Budget:
    """How much a search may cost: so many trials, and none begins after so many minutes of searching."""

    trials: int
    minutes: float | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.trials < 0:
            raise SevenfoldError(f"the number of trials of a search cannot be {self.trials}: 0 is no search")
        if self.minutes is not None and not self.minutes > 0:
            raise SevenfoldError(f"the minutes of a search must be more than 0, not {self.minutes:g}")
        if self.workers < 1:
            raise SevenfoldError(f"a search needs at least 1 worker, not {self.workers}")

    @classmethod
    def of(cls, params: Mapping[str, Any], usual: Search) -> Budget:
        """What a run's form says, and where it says nothing the usual."""
        trials, minutes = params.get("search_trials"), params.get("search_minutes")
        return cls(
            usual.trials if trials is None else int(trials),
            usual.minutes if minutes is None else float(minutes),
            usual.workers,
        )

    def __str__(self) -> str:
        trials = f"{self.trials} trial" + ("s" if self.trials != 1 else "")
        return trials + (f" or {self.minutes:g} minutes" if self.minutes is not None else "")


class Study:
    """One search's trials, shared by its workers. Opening it twice, in any process, is the same study."""

    def __init__(self, name: str, evidence_url: str, folder: Path, budget: Budget, seed: int) -> None:
        """Opens the study, or begins it; `folder` is where journal files lie."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.budget, self.seed = budget, seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.optuna = optuna.create_study(
                study_name=name,
                storage=_storage(name, evidence_url, folder),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=max(1, min(5, budget.trials // 4))),
                load_if_exists=True,
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that ended, by number: complete ones, and those that were stopped early."""
        from optuna.trial import TrialState

        return list(self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def prepare(self, incumbent: dict[str, Any]) -> None:
        """Gives up the trials of workers that are dead, and sees that the settings as they are come first."""
        from optuna.trial import TrialState

        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _alive(trial.user_attrs.get(WORKER, "")):
                self.optuna.tell(trial.number, state=TrialState.FAIL)
        asked = self.optuna.get_trials(deepcopy=False)
        if not any(trial.user_attrs.get(INCUMBENT) and trial.state != TrialState.FAIL for trial in asked):
            self.optuna.enqueue_trial(incumbent, user_attrs={INCUMBENT: True})

    def may_go_on(self) -> bool:
        """Whether the budget leaves room for one more trial; sets the chance that it will be drawn with.

        Chance depends on the seed and the number of trials that have ended, and on nothing else: alone, a
        search that was killed and goes on tries what it would have tried.
        """
        from optuna.samplers import TPESampler

        ended = self.trials
        spent = sum(trial.duration.total_seconds() for trial in ended if trial.duration is not None)
        minutes = self.budget.minutes
        if minutes is not None and spent / self.budget.workers >= minutes * 60:
            return False
        startup = max(2, min(10, self.budget.trials // 4))
        chance = (self.seed * 100_003 + len(ended)) % 2**32
        self.optuna.sampler = TPESampler(seed=chance, n_startup_trials=startup)
        return len(ended) < self.budget.trials

    def claim(self, trial: Trial) -> bool:
        """Says that this process runs the trial; False if others have taken what is left of the budget."""
        from optuna.trial import TrialState

        trial.set_user_attr(WORKER, _me())
        before = (other for other in self.optuna.get_trials(deepcopy=False) if other.number < trial.number)
        return sum(other.state != TrialState.FAIL for other in before) < self.budget.trials


def name_of(promotion: str, *question: Any) -> str:
    """The name of the study in which a promotion asks a question: another question is another study."""
    return f"{promotion}/{hashlib.sha256(repr(question).encode()).hexdigest()[:12]}"


def _storage(name: str, evidence_url: str, folder: Path) -> BaseStorage:
    from optuna import storages
    from optuna.storages import journal

    url = database_url(evidence_url)
    if url.get_backend_name() == "postgresql":
        schema = search_schema(name.split("/")[1])
        _prepare(url, schema)
        return storages.RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={
                "connect_args": {
                    "options": f"-c search_path={schema}",
                    "application_name": "sevenfold search",
                },
                "pool_pre_ping": True,
            },
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.jsonl"
    path.touch(mode=0o600)
    lock = journal.JournalFileSymlinkLock(str(path))
    lock.acquire()  # who holds it is the only one that writes
    try:
        _mend(path)
    finally:
        lock.release()
    return storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))


def _prepare(url: URL, schema: str) -> None:
    """Sees that the schema is there; where roles are granted it is, and ours alone."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(7)"))  # IF NOT EXISTS alone is a race
        if connection.scalar(text("SELECT to_regnamespace(:name)"), {"name": schema}) is None:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()


def _mend(path: Path) -> None:
    """Takes away the half line that a process killed while it wrote has left at the end of a journal."""
    with path.open("r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _me() -> str:
    """This process, as it can be found again: host, process, and when that began."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def _alive(worker: str) -> bool:
    """Whether a worker may still be running; of other hosts PostgreSQL's heartbeats tell."""
    host, _, rest = worker.partition(" ")
    process, _, began = rest.partition(" ")
    if host != socket.gethostname():
        return bool(worker)
    try:
        return f"{psutil.Process(int(process)).create_time():.2f}" == began
    except (psutil.NoSuchProcess, ValueError):
        return False
