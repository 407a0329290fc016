"""The first task of every environment: says what this run is about, and begins its promotion.

What a run is about is read from the store, never from the event that woke it: events can be merged, lost in a
burst, or come twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from sevenfold import clock
from sevenfold.candidates.candidate import Candidate
from sevenfold.environments import before, previous
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.passing import lacking
from sevenfold.evidence.store import Store, open_store
from sevenfold.gates.policy import load_gate
from sevenfold.model.spec import ModelSpec, load_spec
from sevenfold.people import gate_change
from sevenfold.release import release
from sevenfold.release.promotion import Promotion, promotion_id
from sevenfold.settings import settings
from sevenfold_airflow.alerts import ASKS_FOR_TRAINING
from sevenfold_airflow.failures import as_airflow_sees_it
from sevenfold_airflow.links import EvidenceLink


class NotAdmitted(SevenfoldError):
    """What a run asks for cannot be done."""


class NothingDue(Exception):
    """There is nothing to do for this run; the message says why."""


@dataclass(frozen=True)
class Wish:
    """What the person who started a run has set; all of it may be empty."""

    candidate: str | None = None
    as_of: datetime | None = None
    reason: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What a run is about. `alerts` are answered by it, `older` candidates are superseded by it."""

    candidate: str | None
    as_of: datetime
    reason: str
    alerts: tuple[int, ...] = ()
    older: tuple[Candidate, ...] = ()


class AdmitOperator(BaseOperator):
    """Begins the promotion of this run, or skips the run when nothing is due."""

    ui_color = "#fff7e0"
    operator_extra_links = (EvidenceLink(),)

    def __init__(self, *, model: str, environment: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model = model
        self.environment = environment

    def execute(self, context: Any) -> None:
        """Admits the run; a sentence in the log says what it is about."""
        run = context["dag_run"]
        with as_airflow_sees_it():
            spec, store = load_spec(self.model), open_store()
            try:
                require_known(self.dag, context["params"])
                require_activities(self.dag, spec, self.environment)
                promotion = admit(
                    store,
                    spec,
                    self.environment,
                    run.run_id,
                    wish=wish_of(spec, context["params"]),
                    how=run.run_type.value,
                    by=run.triggering_user_name or "sevenfold",
                )
            except NothingDue as nothing:
                raise AirflowSkipException(str(nothing)) from nothing
        carried = promotion.candidate or "a new candidate"
        self.log.info(
            "%s of %s as of %s: %s",
            *(self.environment, carried, f"{promotion.as_of:%Y-%m-%d %H:%M}", promotion.reason),
        )


def admit(
    store: Store, spec: ModelSpec, environment: str, run: str, *, wish: Wish, how: str, by: str
) -> Promotion:
    """Begins the promotion of a run and returns it; a retry of the same run gets the same one.

    Args:
        how: Airflow's type of the run: manual, scheduled, asset_triggered ...
        by: who started it.

    Raises:
        NothingDue: there is nothing to do.
        NotAdmitted: what is asked for cannot be done.
        UnknownCandidate: there is no such candidate.
    """
    known = {p.id: p for p in store.promotions(spec.name, environment)}
    mine = known.get(promotion_id(spec.name, environment, run))
    if mine is not None and mine.state != "running":
        raise NotAdmitted(
            f"promotion {mine.id} has ended ({mine.state}: {mine.outcome}); start a new run instead of "
            "this one again"
        )
    _end_abandoned(store, [p for p in known.values() if p.state == "running" and p.run != run])
    subject = find_subject(store, spec, environment, wish, how) if mine is None else None
    if subject is not None:
        params = dict(wish.params) | ({"alerts": list(subject.alerts)} if subject.alerts else {})
        for old in subject.older:
            _supersede(store, environment, old, by=subject.candidate or "")
        mine = store.begin_promotion(
            *(spec.name, environment, run, subject.candidate),
            as_of=subject.as_of,
            reason=subject.reason,
            params=params,
            requested_by=by,
        )
    if mine is None:
        raise NothingDue("nothing is due")
    for alert in mine.params.get("alerts", ()):
        store.close_alert(alert, "closed", f"training began: {mine.id}")
    return mine


def find_subject(store: Store, spec: ModelSpec, environment: str, wish: Wish, how: str) -> Subject:
    """What a new run is about: what its person asked for, else what the store has due."""
    if environment == "development":
        return Subject(None, wish.as_of or clock.now(store, spec.name), wish.reason or "started by hand")
    if environment == "training":
        return _training(store, spec, wish, how)
    if environment == "monitoring":
        return _monitoring(store, spec, wish, how)
    if wish.candidate is not None:
        candidate = store.candidate(wish.candidate)
        _require_passed(store, candidate, environment)
        return Subject(candidate.id, wish.as_of or candidate.as_of, wish.reason or "started by hand")
    due = store.due(spec.name, environment)
    if not due:
        raise NothingDue(f"no candidate of {spec.name} waits for {environment}")
    *older, newest = due
    _require_passed(store, newest, environment)
    came = f"promoted out of {previous(environment)}"
    return Subject(newest.id, wish.as_of or newest.as_of, wish.reason or came, older=tuple(older))


def require_known(dag: Any, given: Mapping[str, Any]) -> None:
    """Raises NotAdmitted for a value that is no field of the form: a misspelt one would change nothing."""
    unknown = sorted(set(given) - set(dag.params))
    if unknown:
        known = ", ".join(sorted(dag.params))
        raise NotAdmitted(f"the form of {dag.dag_id} has no field {unknown[0]!r}; it has {known}")


def require_activities(dag: Any, spec: ModelSpec, environment: str) -> None:
    """Raises NotAdmitted for resources of an activity that the DAG lacks: its pod would get the defaults."""
    named = {name.partition(".")[2] for name in spec.resources if name.startswith(f"{environment}.")}
    unknown = sorted(named - set(dag.task_ids) - {"go_back"})  # the pod of the roll-back DAG is production's
    if unknown:
        raise NotAdmitted(
            f"{spec.folder / 'model.yaml'} gives resources to {environment}.{unknown[0]}, which is no "
            f"activity: {dag.dag_id} has {', '.join(sorted(dag.task_ids))}"
        )


def wish_of(spec: ModelSpec, params: Mapping[str, Any]) -> Wish:
    """The form of a run, checked.

    Raises:
        NotAdmitted: a value that cannot be meant, named.
    """
    given = {name: value for name, value in params.items() if value not in (None, "", {})}
    reason = str(given.pop("reason", ""))
    candidate = given.pop("candidate", None)
    as_of = _moment(spec, given.pop("as_of", None))
    spec.hyperparameters_with(given.get("hyperparameters", {}))
    return Wish(candidate, as_of, reason, given)


def _training(store: Store, spec: ModelSpec, wish: Wish, how: str) -> Subject:
    """By hand, else for an alert, else for an idea from development, else because the schedule says so."""
    if wish.candidate is not None:
        idea = store.candidate(wish.candidate)
        return Subject(idea.id, wish.as_of or idea.as_of, wish.reason or "started by hand")
    alerts = [alert for alert in store.open_alerts(spec.name) if alert.kind == ASKS_FOR_TRAINING]
    if how == "manual" and (wish.as_of is not None or wish.params or not alerts):
        return Subject(None, wish.as_of or clock.now(store, spec.name), wish.reason or "started by hand")
    if alerts:
        newest = alerts[-1]
        return Subject(None, newest.as_of, newest.reason, alerts=tuple(alert.id for alert in alerts))
    due = store.due(spec.name, "training")
    if due:
        *older, newest_idea = due
        return Subject(newest_idea.id, newest_idea.as_of, "promoted out of development", older=tuple(older))
    if how == "scheduled":
        return Subject(None, clock.now(store, spec.name), f"schedule {spec.schedule}")
    raise NothingDue(f"{spec.name} has no open alert and no new candidate from development")


def _monitoring(store: Store, spec: ModelSpec, wish: Wish, how: str) -> Subject:
    champion = release.row(store, spec.name).champion
    if champion is None:
        raise NothingDue(f"{spec.name} has no champion in production yet: there is nothing to monitor")
    said = {"asset_triggered": "a new champion serves", "scheduled": "the schedule"}.get(how, "by hand")
    return Subject(champion, wish.as_of or clock.now(store, spec.name), wish.reason or said)


def _require_passed(store: Store, candidate: Candidate, environment: str) -> None:
    """All earlier environments, and that this one's gate may judge it: who could not pass does not begin."""
    for earlier in before(environment):
        with store.reading() as connection:
            missing = lacking(connection, store.keys, candidate.id, earlier, datetime.now(UTC))
        if missing:
            raise NotAdmitted(f"{candidate.id} is not admitted to {environment}: {missing}")
    gate = load_gate(settings().models, candidate.model, environment)
    if moved := gate_change.refused(store, candidate, gate):
        raise NotAdmitted(moved)


def _end_abandoned(store: Store, running: list[Promotion]) -> None:
    """Only one run of an environment is active at a time: what others left open has no run any more."""
    for promotion in running:
        store.end_promotion(
            promotion.id, "error", "Error", "its run ended without a verdict, stopped or removed by a person"
        )


def _supersede(store: Store, environment: str, old: Candidate, by: str) -> None:
    reason = f"superseded by {by}, which is newer"
    promotion = store.begin_promotion(
        *(old.model, environment, f"superseded-{old.id}", old.id, old.as_of, reason, {}),
        requested_by="sevenfold",
    )
    store.end_promotion(promotion.id, "superseded", "Inconclusive", reason)


def _moment(spec: ModelSpec, given: object) -> datetime | None:
    if given is None:
        return None
    try:
        return clock.moment(spec, str(given))
    except clock.NoMoment as error:
        raise NotAdmitted(str(error)) from error
