"""The error budget: how much of what the SLA allows to fail has failed, and how fast that goes.

The SLA promises that at most `error_rate` of the requests fail and that one of a hundred takes longer than
its p99. Over a window that is a number of requests, the budget. The burn rate is the share that failed
lately, in units of the promise: at 1 the budget lasts exactly as long as its window (Beyer et al., The Site
Reliability Workbook, 2018, chapters 2 and 5). Who is woken when it burns is the service alarm's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, or_, select

from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import release_history
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring.answers import AccessLog, Answer
from sevenfold.monitoring.service_alarm import SLOW_PROMISE

WINDOW, LATELY = timedelta(days=30), timedelta(hours=1)
MOST_BYTES = 64 << 20
"""Of each gateway's log that are read: some 150,000 requests."""


@dataclass(frozen=True)
class Budget:
    """One promise over one window: `bad` of `n` requests broke it, `promised` (a share) may.

    `first` is when the oldest of them came: the log may not reach back as far as the window.
    """

    what: str
    window: timedelta
    bad: int
    n: int
    promised: float
    first: datetime | None

    @property
    def allowed(self) -> float:
        """Requests that may break the promise; one always may, or the first to fail would be too many."""
        return max(1.0, self.promised * self.n)

    @property
    def spent(self) -> float:
        """The part of the budget that is used: above 1 the promise is broken."""
        return self.bad / self.allowed


def budgets(spec: ModelSpec, answers: Sequence[Answer], now: datetime) -> list[Budget]:
    """Errors and slow answers, over the whole window and lately.

    Refusals of what a caller must put right (400 to 499) are no fault of the service.
    """
    sla, found = spec.serving.sla, []
    for window in (WINDOW, LATELY):
        inside = [answer for answer in answers if now - window <= answer.at <= now]
        failed = sum(answer.status >= 500 or answer.status == 0 for answer in inside)
        slow = sum(answer.milliseconds > sla.p99_ms for answer in inside)
        first = min((answer.at for answer in inside), default=None)
        found += [
            Budget("errors", window, failed, len(inside), sla.error_rate, first),
            Budget("slow", window, slow, len(inside), SLOW_PROMISE, first),
        ]
    return found


def callers_answers(store: Store, logs: Path, model: str, marks: Callable[[], Iterable[str]]) -> list[Answer]:
    """What callers of the public route met since the model is served, from the newest of the gateway's log.

    Before its first champion or canary nobody promised anything, and whoever asks is told so with a 503.
    """
    history = release_history
    served = or_(history.c.champion.is_not(None), history.c.share > 0)
    with store.reading() as connection:
        since = connection.scalar(select(func.min(history.c.at)).where(history.c.model == model, served))
    if since is None:
        return []
    log = AccessLog(logs, model, refused=True, since=since, most=MOST_BYTES, marks=marks)
    log.settle()
    mine = [answer for answer in log.newest() if answer.path == f"/v2/models/{model}/infer"]
    return [answer for answer in mine if answer.at >= since]
