"""What the pages of the board show. Templates escape everything that is put into them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from sevenfold import clock
from sevenfold.environments import ENVIRONMENTS
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.records import Alert
from sevenfold.evidence.store import Store
from sevenfold.model.spec import ModelSpec, load_spec, models
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.release.release import ReleaseRow
from sevenfold_airflow.links import evidence_address

RECENT = 15


@dataclass(frozen=True)
class Place:
    """One environment of one model: its newest promotion, and what waits there."""

    environment: str
    last: Promotion | None
    waits_for_approval: bool


@dataclass(frozen=True)
class ModelOnBoard:
    """One model, or the sentence that says why it cannot be read."""

    name: str
    spec: ModelSpec | None = None
    mistake: str = ""
    now: datetime | None = None
    row: ReleaseRow | None = None
    places: tuple[Place, ...] = ()
    open_alerts: tuple[Alert, ...] = ()
    closed_alerts: tuple[Alert, ...] = ()
    recent: tuple[Promotion, ...] = ()


def board_page(store: Store) -> str:
    """All models."""
    return _render("board.html", models=[model_on_board(store, name) for name in models()])


def evidence_page(store: Store, promotion: Promotion) -> str:
    """One promotion: candidate, verdict, measurements, reports."""
    analyses = store.analyses(promotion.id)
    return _render(
        "evidence.html",
        promotion=promotion,
        candidate=store.candidate(promotion.candidate) if promotion.candidate else None,
        analysis=analyses[-1] if analyses else None,
        looks=len(analyses),
        measurements=store.measurements(promotion.id),
        reports=store.reports(promotion.id),
        moves=store.promotions(promotion.model, candidate=promotion.candidate) if promotion.candidate else [],
        passed=bool(promotion.candidate) and store.passed(promotion.candidate or "", promotion.environment),
    )


def message_page(message: str) -> str:
    """One sentence."""
    return _render("message.html", message=message)


def model_on_board(store: Store, name: str) -> ModelOnBoard:
    """Everything that the board shows of a model; its mistake, when its model.yaml is wrong."""
    try:
        spec = load_spec(name)
    except SevenfoldError as mistake:
        return ModelOnBoard(name, mistake=str(mistake))
    moves = store.promotions(name)
    alerts = store.alerts(name)
    return ModelOnBoard(
        name,
        spec=spec,
        now=clock.now(store, name),
        row=release.row(store, name),
        places=tuple(_place(environment, moves) for environment in ENVIRONMENTS),
        open_alerts=tuple(alert for alert in alerts if alert.state == "open"),
        closed_alerts=tuple(alert for alert in alerts if alert.state != "open")[-5:],
        recent=tuple(reversed(moves[-RECENT:])),
    )


def _place(environment: str, moves: list[Promotion]) -> Place:
    here = [move for move in moves if move.environment == environment and move.state != "superseded"]
    last = here[-1] if here else None
    waits = environment == "production" and last is not None and last.state == "running"
    return Place(environment, last, waits)


def _render(template: str, **values: Any) -> str:
    return str(_templates().get_template(template).render(**values))


@lru_cache(maxsize=1)
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("sevenfold_airflow", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"moment": _moment, "number": _number, "ago": _ago}
    pages.globals |= {"evidence_address": evidence_address, "run_address": _run_address}
    return pages


def _run_address(promotion: Promotion) -> str:
    return f"/dags/{promotion.model}.{promotion.environment}/runs/{quote(promotion.run, safe='')}"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 10_000 else f"{value:,.0f}"


def _ago(moment: datetime) -> str:
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
