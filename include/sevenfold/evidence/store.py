"""The evidence store: what was promoted, measured, judged, signed and released."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sevenfold.candidates.candidate import Candidate
from sevenfold.environments import previous, require_environment
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit, tables
from sevenfold.evidence.database import Database, upgrade
from sevenfold.evidence.records import Alert, AlertState, Report, UnknownAlert
from sevenfold.gates.measurement import Measurement
from sevenfold.release.promotion import (
    ENDS,
    End,
    Promotion,
    PromotionEnd,
    PromotionEnded,
    UnknownPromotion,
    promotion_id,
)
from sevenfold.settings import settings

if TYPE_CHECKING:
    from sevenfold.evidence.audit import AuditLine
    from sevenfold.evidence.signing import Keys
    from sevenfold.gates.analysis import AnalysisRun
    from sevenfold.gates.policy import Policy
    from sevenfold.people.identity import People

__all__ = ["Promotion", "PromotionEnd", "Store", "UnknownCandidate", "open_store", "upgrade"]


LOOKED, FAILED = "looked at a test set", "activity failed"
"""What the audit log calls it."""


class UnknownCandidate(SevenfoldError):
    """No candidate has this id."""


class NoStore(SevenfoldError):
    """Nobody has said where the evidence of a cluster is."""


class BudgetSpent(SevenfoldError):
    """A test set has been looked at as often as its gate allows."""


class Store(Database):
    """Evidence and release rows of all models. Safe for many processes; times are UTC."""

    def __init__(self, url: str, keys: Path | None = None) -> None:
        super().__init__(url)
        self._keys_folder = keys

    @cached_property
    def keys(self) -> Keys:
        """The keys that sign and verify evidence."""
        from sevenfold.evidence.signing import Keys

        return Keys(self._keys_folder or settings().secrets / "evidence")

    @cached_property
    def people(self) -> People:
        """The people who can sign what they ask for and grant."""
        return self.keys.people

    # Candidates

    def add_candidate(self, candidate: Candidate, gates: Iterable[Policy] = ()) -> Candidate:
        """Keeps a candidate; one that is known already stays as it was first written, and is returned.

        The text of the `gates` that it was made under is kept with it.
        """
        from sevenfold.people import gate_change

        with self.writing() as connection:
            gate_change.keep(connection, list(gates))
            added = _insert_new(
                connection,
                tables.candidates,
                [
                    {
                        "id": candidate.id,
                        "model": candidate.model,
                        "body": candidate.model_dump_json(),
                        "created_at": candidate.created_at,
                    }
                ],
            )
            if added:
                audit.append(connection, "sevenfold", "candidate added", {"candidate": candidate.id})
            return find_candidate(connection, candidate.id)

    def candidate(self, candidate_id: str) -> Candidate:
        """The candidate, or UnknownCandidate."""
        with self.reading() as connection:
            return find_candidate(connection, candidate_id)

    def candidates(self, model: str) -> list[Candidate]:
        """All candidates of a model, oldest first."""
        table = tables.candidates
        query = select(table.c.body).where(table.c.model == model).order_by(table.c.created_at, table.c.id)
        with self.reading() as connection:
            return [Candidate.model_validate_json(body) for body in connection.scalars(query)]

    # Promotions

    def begin_promotion(
        self,
        model: str,
        environment: str,
        run: str,
        candidate_id: str | None,
        as_of: datetime,
        reason: str,
        params: Mapping[str, Any],
        requested_by: str,
    ) -> Promotion:
        """Starts a promotion, or returns the one that this run started before.

        Raises:
            UnknownCandidate: `candidate_id` is not in the store.
            UnknownEnvironment: `environment` is none of the seven.
        """
        require_environment(environment)
        identity = promotion_id(model, environment, run)
        with self.writing() as connection:
            if candidate_id is not None:
                _candidate_of(connection, candidate_id, model)
            began = _insert_new(
                connection,
                tables.promotions,
                [
                    {
                        "id": identity,
                        "model": model,
                        "environment": environment,
                        "run": run,
                        "origin": candidate_id,
                        "candidate": candidate_id,
                        "as_of": as_of,
                        "reason": reason,
                        "params": _json(params),
                        "requested_by": requested_by,
                        "state": "running",
                        "began_at": _now(),
                    }
                ],
            )
            if began:
                detail = {"promotion": identity, "candidate": candidate_id, "reason": reason}
                audit.append(connection, requested_by, "promotion begun", detail)
            return find_promotion(connection, identity)

    def set_promotion_candidate(self, identity: str, candidate_id: str) -> Promotion:
        """Says which candidate a running promotion carries, where the environment itself makes it.

        Raises:
            PromotionEnded: the promotion has ended with another candidate.
        """
        with self.writing() as connection:
            promotion = find_promotion(connection, identity)
            if promotion.candidate == candidate_id:
                return promotion
            if promotion.state != "running":
                raise PromotionEnded(
                    f"Promotion {identity} has ended ({promotion.state}); it cannot carry {candidate_id} now."
                )
            _candidate_of(connection, candidate_id, promotion.model)
            table = tables.promotions
            connection.execute(update(table).where(table.c.id == identity).values(candidate=candidate_id))
            detail = {"promotion": identity, "candidate": candidate_id}
            audit.append(connection, "sevenfold", "promotion carries candidate", detail)
            return find_promotion(connection, identity)

    def promotion(self, identity: str) -> Promotion:
        """The promotion, or UnknownPromotion."""
        with self.reading() as connection:
            return find_promotion(connection, identity)

    def promotions(
        self, model: str, environment: str | None = None, candidate: str | None = None
    ) -> list[Promotion]:
        """Promotions of a model, oldest first."""
        table = tables.promotions
        query = select(table).where(table.c.model == model).order_by(table.c.began_at, table.c.id)
        if environment is not None:
            query = query.where(table.c.environment == environment)
        if candidate is not None:
            query = query.where(table.c.candidate == candidate)
        with self.reading() as connection:
            return [_promotion(row) for row in connection.execute(query)]

    def end_promotion(self, identity: str, state: End, verdict: str, reason: str) -> Promotion:
        """Ends a promotion; the first end wins. What it holds of the release row is given back with it.

        Raises:
            ValueError: `state` is no end.
        """
        if state not in ENDS:
            raise ValueError(f"'{state}' is no end of a promotion; it is one of {', '.join(ENDS)}")
        from sevenfold.release import release

        with self.writing() as connection:
            release.finish(connection, PromotionEnd(identity, state, verdict, reason), "sevenfold")
            return find_promotion(connection, identity)

    def due(self, model: str, environment: str) -> list[Candidate]:
        """Candidates promoted out of the environment before and never tried in this one, oldest first."""
        before = previous(environment)
        if before is None:
            return []
        table = tables.promotions
        tried = select(table.c.origin, table.c.candidate).where(
            table.c.model == model, table.c.environment == environment
        )
        query = (
            select(table.c.candidate)
            .where(table.c.model == model, table.c.environment == before, table.c.state == "promoted")
            .where(table.c.candidate.is_not(None))
            .order_by(table.c.ended_at, table.c.id)
        )
        with self.reading() as connection:
            seen = {candidate for row in connection.execute(tried) for candidate in row}
            waiting = dict.fromkeys(c for c in connection.scalars(query) if c not in seen)
            return [find_candidate(connection, candidate) for candidate in waiting]

    def passed(self, candidate_id: str, environment: str, now: datetime | None = None) -> bool:
        """Whether a complete, passing, signed and unrevoked statement over exactly this candidate exists.

        `now` is the moment at which an override must still be valid; the wall clock by default.
        """
        from sevenfold.evidence.passing import lacking

        with self.reading() as connection:
            return lacking(connection, self.keys, candidate_id, environment, now or _now()) is None

    # Measurements, analyses, reports

    def record(self, measurements: Iterable[Measurement]) -> int:
        """Keeps readings and returns how many were new: a polled interval counts once.

        Raises:
            UnknownPromotion: a reading belongs to no promotion of this store.
        """
        rows = [
            {
                "promotion": reading.promotion,
                "activity": reading.activity,
                "key": reading.key,
                "body": reading.model_dump_json(),
            }
            for reading in measurements
        ]
        with self.writing() as connection:
            for identity in {str(row["promotion"]) for row in rows}:
                find_promotion(connection, identity)
            return _insert_new(connection, tables.measurements, rows)

    def measurements(self, promotion: str, activity: str | None = None) -> list[Measurement]:
        """The readings of a promotion in the order in which they were written."""
        with self.reading() as connection:
            return find_measurements(connection, promotion, activity)

    def record_analysis(self, analysis: AnalysisRun) -> None:
        """Keeps an analysis run; the same one twice is kept once."""
        with self.writing() as connection:
            add_analysis(connection, find_promotion(connection, analysis.promotion), analysis)

    def analyses(self, promotion: str) -> list[AnalysisRun]:
        """The analysis runs of a promotion, oldest first."""
        from sevenfold.gates.analysis import AnalysisRun

        table = tables.analyses
        query = select(table.c.body).where(table.c.promotion == promotion).order_by(table.c.sequence)
        with self.reading() as connection:
            return [AnalysisRun.model_validate_json(body) for body in connection.scalars(query)]

    def add_report(self, promotion: str, activity: str, title: str, path: str, sha256: str) -> Report:
        """Notes a report that lies in the artifact store."""
        with self.writing() as connection:
            find_promotion(connection, promotion)
            row = {
                "promotion": promotion,
                "activity": activity,
                "title": title,
                "path": path,
                "sha256": sha256,
                "at": _now(),
            }
            _insert_new(connection, tables.reports, [row])
            return Report.model_validate(row)

    def reports(self, promotion: str) -> list[Report]:
        """The reports of a promotion in the order in which they were written; the last of a path counts."""
        with self.reading() as connection:
            return find_reports(connection, promotion)

    # Test sets

    def use_test_set(self, promotion: str, digest: str, budget: int | None = None) -> int:
        """Counts a look at a test set before it is taken; returns how many looks there are with this one.

        A look belongs to a promotion: a retried task does not look twice. `digest` is the data window's.

        Raises:
            BudgetSpent: this would be a look more than `budget`; it is not counted.
        """
        table = tables.test_set_uses
        with self.writing() as connection:
            where = find_promotion(connection, promotion)
            mine = select(table.c.sequence).where(table.c.promotion == promotion, table.c.digest == digest)
            count = (
                select(func.count())
                .where(table.c.model == where.model, table.c.environment == where.environment)
                .where(table.c.digest == digest)
            )
            number = connection.scalar(mine)
            if number is not None:
                return connection.scalars(count.where(table.c.sequence <= number)).one()
            uses = connection.scalars(count).one() + 1
            if budget is not None and uses > budget:
                raise BudgetSpent(
                    f"The {where.environment} test set {digest[:12]} of {where.model} has been used "
                    f"{uses - 1} times and its budget is {budget}: promotion {promotion} needs a fresh one."
                )
            connection.execute(
                insert(table).values(
                    promotion=promotion,
                    model=where.model,
                    environment=where.environment,
                    digest=digest,
                    at=_now(),
                )
            )
            detail = {"promotion": promotion, "digest": digest, "uses": uses}
            audit.append(connection, "sevenfold", LOOKED, detail)
            return uses

    def test_set_uses(self, model: str, digest: str, environment: str | None = None) -> int:
        """How many promotions have looked at the test set."""
        table = tables.test_set_uses
        query = select(func.count()).where(table.c.model == model, table.c.digest == digest)
        if environment is not None:
            query = query.where(table.c.environment == environment)
        with self.reading() as connection:
            return connection.scalars(query).one()

    # Alerts

    def add_alert(
        self,
        model: str,
        kind: str,
        window: str,
        as_of: datetime,
        severity: str,
        value: float | None,
        reason: str,
        state: AlertState = "open",
    ) -> Alert:
        """Raises an alert; one of the same model, kind and window stays as it is, and is returned."""
        table = tables.alerts
        now = _now()
        row = {
            "model": model,
            "kind": kind,
            "window": window,
            "as_of": as_of,
            "severity": severity,
            "value": value,
            "reason": reason,
            "state": state,
            "outcome": None if state == "open" else reason,
            "raised_at": now,
            "closed_at": None if state == "open" else now,
        }
        key = (table.c.model == model) & (table.c.kind == kind) & (table.c.window == window)
        with self.writing() as connection:
            if _insert_new(connection, table, [row]):
                audit.append(connection, "monitoring", f"alert {state}", {"model": model, "reason": reason})
            return _alert(connection.execute(select(table).where(key)).one())

    def alerts(self, model: str) -> list[Alert]:
        """All alerts of a model, oldest first."""
        table = tables.alerts
        query = select(table).where(table.c.model == model).order_by(table.c.id)
        with self.reading() as connection:
            return [_alert(row) for row in connection.execute(query)]

    def open_alerts(self, model: str) -> list[Alert]:
        """The alerts of a model that nobody has dealt with, oldest first."""
        return [alert for alert in self.alerts(model) if alert.state == "open"]

    def close_alert(self, alert_id: int, state: AlertState, reason: str) -> Alert:
        """Says what became of an alert; the first close wins."""
        table = tables.alerts
        with self.writing() as connection:
            change = update(table).where(table.c.id == alert_id, table.c.state == "open")
            closed = connection.execute(change.values(state=state, outcome=reason, closed_at=_now()))
            row = connection.execute(select(table).where(table.c.id == alert_id)).first()
            if row is None:
                raise UnknownAlert(f"The evidence store has no alert {alert_id}.")
            if closed.rowcount:
                audit.append(
                    connection, "monitoring", f"alert {state}", {"alert": alert_id, "reason": reason}
                )
            return _alert(row)

    # Audit and clock

    def audit(self, who: str, what: str, detail: Mapping[str, Any] | str = "") -> AuditLine:
        """Adds a line to the append-only, hash-chained log."""
        with self.writing() as connection:
            return audit.append(connection, who, what, detail)

    def audit_lines(self) -> list[AuditLine]:
        """The audit log, oldest first."""
        with self.reading() as connection:
            return audit.lines(connection)

    def activity_failed(self, activity: str, promotion: str, why: str) -> None:
        """Keeps the sentence with which an activity failed, for whoever asks why its promotion ended."""
        self.audit(activity, FAILED, {"promotion": promotion, "why": why})

    def failures(self, promotion: str, since: datetime | None = None) -> dict[str, str]:
        """With which sentence each activity of the promotion last failed, by activity; only those `since`."""
        with self.reading() as connection:
            lines = audit.lines(connection, FAILED)
        lines = [line for line in lines if since is None or line.at >= since]
        return {line.who: line.detail["why"] for line in lines if line.detail["promotion"] == promotion}

    def get_clock(self, model: str) -> datetime | None:
        """The moment that the model's player has reached; None when nothing plays."""
        with self.reading() as connection:
            return _clock(connection, model)

    def set_clock(self, model: str, moment: datetime | None) -> None:
        """Sets the model's data time; None gives it back to the wall clock."""
        table = tables.clocks
        with self.writing() as connection:
            if moment is None:
                connection.execute(table.delete().where(table.c.model == model))
            elif not connection.execute(
                update(table).where(table.c.model == model).values(moment=moment)
            ).rowcount:
                connection.execute(insert(table).values(model=model, moment=moment))


def open_store(url: str | None = None, keys: Path | None = None) -> Store:
    """The evidence store at `url`, by default settings().evidence_url; a file of SQLite is made if needed.

    `keys` is the folder of the signing keys; settings().secrets/evidence by default.

    Raises:
        NoStore: in a pod nobody has said where it is; a file of its own would be empty, and gone with it.
        SchemaTooNew: the database was made by a later version.
        NotMigrated: PostgreSQL has not the tables of this version (see `upgrade`).
        StoreUnavailable: the database cannot be reached.
    """
    here = settings()
    where = url or here.evidence_url
    if here.runtime == "kubernetes" and where == f"sqlite:///{here.home}/evidence.db":
        raise NoStore(
            "SEVENFOLD_RUNTIME is kubernetes, and SEVENFOLD_EVIDENCE_URL does not say where the evidence is: "
            "in a pod the Secret `sevenfold` of its namespace does (docs/cluster.md, Secrets)"
        )
    store = Store(where, keys)
    store.require_prepared()
    return store


# What a transaction of another module needs, on its own connection


def find_candidate(connection: Connection, candidate_id: str) -> Candidate:
    """The candidate, or UnknownCandidate."""
    table = tables.candidates
    body = connection.scalar(select(table.c.body).where(table.c.id == candidate_id))
    if body is None:
        raise UnknownCandidate(f"The evidence store has no candidate {candidate_id}.")
    return Candidate.model_validate_json(body)


def find_promotion(connection: Connection, identity: str) -> Promotion:
    """The promotion, or UnknownPromotion."""
    row = connection.execute(select(tables.promotions).where(tables.promotions.c.id == identity)).first()
    if row is None:
        raise UnknownPromotion(f"The evidence store has no promotion {identity}.")
    return _promotion(row)


def find_measurements(
    connection: Connection, promotion: str, activity: str | None = None
) -> list[Measurement]:
    """The readings of a promotion in the order in which they were written."""
    table = tables.measurements
    query = select(table.c.body).where(table.c.promotion == promotion).order_by(table.c.sequence)
    if activity is not None:
        query = query.where(table.c.activity == activity)
    return [Measurement.model_validate_json(body) for body in connection.scalars(query)]


def find_reports(connection: Connection, promotion: str) -> list[Report]:
    """The reports of a promotion; of several with one path the last."""
    table = tables.reports
    query = select(table).where(table.c.promotion == promotion).order_by(table.c.sequence)
    last = {row.path: row for row in connection.execute(query)}
    return [Report.model_validate(dict(row._mapping)) for row in last.values()]


def add_analysis(connection: Connection, promotion: Promotion, analysis: AnalysisRun) -> str:
    """Keeps an analysis run, and the data time it was judged at; returns the sha256 (hex) of its text."""
    body = analysis.model_dump_json()
    digest = hashlib.sha256(body.encode()).hexdigest()
    row = {
        "promotion": analysis.promotion,
        "candidate": analysis.candidate,
        "policy_hash": analysis.policy_hash,
        "verdict": str(analysis.verdict),
        "reason": analysis.reason,
        "digest": digest,
        "body": body,
        "judged_at": _now(),
        "clock": _clock(connection, promotion.model),
    }
    _insert_new(connection, tables.analyses, [row])
    return digest


def _candidate_of(connection: Connection, candidate_id: str, model: str) -> Candidate:
    candidate = find_candidate(connection, candidate_id)
    if candidate.model != model:
        raise UnknownCandidate(f"Candidate {candidate_id} is one of {candidate.model}, not of {model}.")
    return candidate


def _promotion(row: Row[Any]) -> Promotion:
    return Promotion.model_validate({**row._mapping, "params": json.loads(row.params)})


def _clock(connection: Connection, model: str) -> datetime | None:
    return connection.scalar(select(tables.clocks.c.moment).where(tables.clocks.c.model == model))


def _alert(row: Row[Any]) -> Alert:
    return Alert.model_validate(dict(row._mapping))


def _insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts the rows that no unique key forbids, and returns how many those were."""
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(table).on_conflict_do_nothing().returning(table.primary_key.columns[0])
    return len(connection.execute(new, rows).all())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _now() -> datetime:
    return datetime.now(UTC)
