"""The service alarm: callers get errors or wait too long, or nobody logs what they were told.

What callers met stands in the gateway's access log; what the servers could not log stands in their own
Prometheus metrics. The SLA promises how many requests may fail, and that one of a hundred may take longer
than its p99. One bad minute is no reason to wake anybody, so an alert is raised when the promise is proven to
be broken `BURN` times over within `WINDOW`: at that rate the allowance of a month is gone in three days (burn
rate alerts: Beyer et al., The Site Reliability Workbook, 2018, chapter 5). It is closed when the window is
clean again.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sevenfold.cluster import Endpoint
from sevenfold.evidence.records import Alert
from sevenfold.evidence.store import Store
from sevenfold.gates.rules import bounds, words
from sevenfold.model.spec import ModelSpec
from sevenfold.monitoring.answers import Answer

ERRORS, SLOW, UNLOGGED = "error_rate", "latency", "unlogged"
"""Kinds of alerts."""
WINDOW = timedelta(minutes=5)
BURN = 10.0
SLOW_PROMISE = 0.01
"""What a 99th percentile leaves above it."""
ALPHA = 1e-4
"""Risk of one look: it is taken every few seconds, all year."""
_LOST = re.compile(rb"^sevenfold_log_lines_lost_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_SCRAPE_S = 2.0


@dataclass(frozen=True)
class Finding:
    """A promise that is broken, with the share of requests and a sentence that says so."""

    kind: str
    share: float
    reason: str


def judge(spec: ModelSpec, answers: Sequence[Answer], lost: float = 0.0) -> list[Finding]:
    """What is wrong with a window of a model's requests; `lost` is how many lines its servers could not log.

    Refusals of what a caller must put right (400 to 499) count as answers: they are no fault of the service.
    """
    sla = spec.serving.sla
    n = len(answers)
    failed = sum(answer.status >= 500 or answer.status == 0 for answer in answers)
    slow = sum(answer.milliseconds > sla.p99_ms for answer in answers)
    found = [
        _broken(ERRORS, failed, n, sla.error_rate, f"{spec.title}: requests fail", _worst(answers)),
        _broken(SLOW, slow, n, SLOW_PROMISE, f"{spec.title}: answers take longer than {sla.p99_ms:g} ms", ""),
    ]
    if lost:
        reason = (
            f"{spec.title}: {lost:,.0f} answers or labels could not be logged, so monitoring is blind to "
            "them: look at the disk and the rights of the log folder."
        )
        found.append(Finding(UNLOGGED, lost, reason))
    return [finding for finding in found if finding is not None]


def tell(
    store: Store, spec: ModelSpec, findings: Iterable[Finding], seen: int, now: datetime, as_of: datetime
) -> list[Alert]:
    """Opens an alert for each finding that has none, closes those that are over, and returns what is open.

    Args:
        store: where alerts are kept.
        spec: the model.
        findings: what `judge` found in the window that ends now.
        seen: how many requests it judged; while nobody asks nothing is over.
        now: the time on the wall, the alert's window.
        as_of: the model's time.
    """
    by_kind = {finding.kind: finding for finding in findings}
    standing = {alert.kind: alert for alert in store.open_alerts(spec.name)}
    for kind in (ERRORS, SLOW, UNLOGGED):
        finding, alert = by_kind.get(kind), standing.get(kind)
        if finding is not None and alert is None:
            window = now.isoformat(timespec="seconds")
            store.add_alert(spec.name, kind, window, as_of, "critical", finding.share, finding.reason)
        elif finding is None and alert is not None and seen:
            minutes = words.duration(WINDOW)
            store.close_alert(
                alert.id, "closed", f"over: the {seen:,} requests of the last {minutes} are fine"
            )
    return [alert for alert in store.open_alerts(spec.name) if alert.kind in (ERRORS, SLOW, UNLOGGED)]


def lost_lines(replicas: Iterable[Endpoint]) -> dict[Endpoint, float]:
    """Lines that each of these servers could not log since it began; who is gone or late says nothing."""
    said = {one: _lost_by(one) for one in replicas}
    return {one: lost for one, lost in said.items() if lost is not None}


def _lost_by(replica: Endpoint) -> float | None:
    connection = http.client.HTTPConnection(replica.host, replica.port, timeout=_SCRAPE_S)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return sum(float(value) for value in _LOST.findall(page))


def _broken(kind: str, bad: int, n: int, promised: float, what: str, where: str) -> Finding | None:
    limit = min(1.0, BURN * promised)
    if not bad or bounds.of_share(bad, n, ALPHA)[0] <= limit:
        return None
    share, allowed = words.amount(bad / n, "share"), words.amount(promised, "share")
    reason = (
        f"{what}: {bad:,} of {n:,} in {words.duration(WINDOW)} ({share}) where {allowed} is promised{where}: "
        "look at its replicas and the gateway, or roll back."
    )
    return Finding(kind, bad / n, reason)


def _worst(answers: Sequence[Answer]) -> str:
    """Whose answers failed most, and with which status."""
    failed = [(answer.candidate or "nobody", answer.status) for answer in answers if answer.status >= 500]
    if not failed:
        return ""
    who, status = max(sorted(set(failed)), key=failed.count)
    return f", most of them {status} of {who}"
