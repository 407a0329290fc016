"""S1 to S7, checked on what a history of faults has left behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import select
from tests.sevenfold.evidence_world import MODEL
from tests.sevenfold.release.rollout import FileRouter, opened

from sevenfold.environments import before
from sevenfold.evidence import audit
from sevenfold.evidence.passing import lacking, unapproved
from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import release_history, release_rows, roll_backs, statements
from sevenfold.evidence.verify import verify
from sevenfold.release import release

EVERYTHING = (*before("production"), "production")


class Broken(AssertionError):
    """An invariant does not hold."""


def check(home: Path, log_before: list[str], at_rest: bool) -> list[str]:
    """Checks the invariants; returns the audit log's hashes, for the next check."""
    store, router = opened(home), FileRouter(home).traffic(MODEL)
    row = release.row(store, MODEL)
    _require(store, row.champion, EVERYTHING, "S1 the champion")
    if row.share:
        _require(store, row.candidate, before("production"), "S1 the candidate with requests")
    with store.reading() as connection:
        rows = connection.execute(select(release_rows).where(release_rows.c.model == MODEL)).all()
        history = {h.generation: h for h in connection.execute(select(release_history))}
        rolled = connection.execute(select(roll_backs)).all()
        results = connection.execute(select(statements.c.promotion, statements.c.result)).all()
    _that(len(rows) == 1, "S2 there is exactly one row")
    if router is not None:
        then = history[router.generation]
        _that(router.generation <= row.generation, "S2 the router leads")
        _that(router.champion == then.champion, "S2 the router is not what the row was")
        _that(router.share in (then.share, 1.0), "S2 the router splits otherwise than the row did")
    for roll_back in rolled:
        later = [h for g, h in history.items() if g >= roll_back.generation]
        _that(all(h.champion != roll_back.candidate for h in later), "S4 back at a rolled-back champion")
    journal = FileRouter(home).journal
    applied = [int(line) for line in journal.read_text().split()] if journal.exists() else []
    _that(applied == sorted(applied), "S5 the router went back")
    log = store.audit_lines()
    hashes = [line.hash for line in log]
    _that(audit.problems(log) == [] and hashes[: len(log_before)] == log_before, "S6 the audit log changed")
    _that(verify(store) == [], "S6 the evidence changed")
    _that(len(results) == len({promotion for promotion, _ in results}), "S6 concluded twice")
    _whole_artifacts(home)
    if at_rest:
        _that(router == release.traffic(row), "S2 at rest the router is not the row")
        _that((row.candidate, row.share, row.promotion) == (None, 0.0, None), "S3 a canary nobody tries")
        _that(all(p.state != "running" for p in store.promotions(MODEL, "production")), "L1 it never ended")
        _passed_only(store, {promotion for promotion, result in results if result == "PASSED"})
    store.engine.dispose()
    return hashes


def _passed_only(store: Store, passed: set[str]) -> None:
    promoted = {p.id for p in store.promotions(MODEL) if p.state == "promoted"}
    _that(promoted <= passed, "S7 promoted without a passing statement")
    lines = [line.detail["promotion"] for line in store.audit_lines() if line.what == "promotion promoted"]
    _that(sorted(lines) == sorted(promoted), "L2 a finished promotion acted again")


def _require(store: Store, candidate: str | None, environments: tuple[str, ...], who: str) -> None:
    if candidate is None:
        return
    with store.reading() as connection:
        for environment in environments:
            missing = lacking(connection, store.keys, candidate, environment, None)
            _that(missing is None, f"{who}: {missing}")
        _that(unapproved(connection, candidate) is None, f"{who} was approved by nobody")


def _whole_artifacts(home: Path) -> None:
    for path in (home / "artifacts").glob("sha256/*/[0-9a-f]*"):
        whole = hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        _that(whole, f"S9 half an artifact is visible: {path.name}")


def _that(holds: bool, rule: str) -> None:
    if not holds:
        raise Broken(rule)
