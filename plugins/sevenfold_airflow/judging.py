"""Judges a promotion by what stands in the store now: policy, measurements, champion. Reads only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from sevenfold import clock, release
from sevenfold.analysis import AnalysisRun, judge
from sevenfold.candidate import Candidate
from sevenfold.errors import SevenfoldError
from sevenfold.policy import load_gate
from sevenfold.promotion import Promotion
from sevenfold.settings import settings
from sevenfold.store import Store
from sevenfold.tables import measurements, test_set_uses


class NothingToJudge(SevenfoldError):
    """The promotion carries no candidate: no activity has made one."""


def judge_now(store: Store, identity: str, now: datetime) -> AnalysisRun:
    """The analysis of a promotion at this moment.

    Raises:
        NothingToJudge: it carries no candidate.
        InvalidFile: the gate's file is missing or wrong.
    """
    promotion = store.promotion(identity)
    if promotion.candidate is None:
        raise NothingToJudge(f"promotion {identity} carries no candidate: no activity has made one")
    champion = release.row(store, promotion.model).champion
    return judge(
        load_gate(settings().models, promotion.model, promotion.environment),
        store.measurements(identity),
        store.candidate(promotion.candidate),
        promotion,
        now,
        champion=store.candidate(champion) if champion else None,
        anchor=_anchor(store, promotion.model),
        uses=_looks_at_test_sets(store, promotion),
        data_now=clock.now(store, promotion.model),
    )


def last_reading(store: Store, identity: str) -> int:
    """A number that grows with every new measurement of a promotion: cheap to ask for again and again."""
    query = select(func.max(measurements.c.sequence)).where(measurements.c.promotion == identity)
    with store.reading() as connection:
        return connection.scalar(query) or 0


def _anchor(store: Store, model: str) -> Candidate | None:
    """The model's first champion: slow decay over many small steps shows against it."""
    first = next((p for p in store.promotions(model, "production") if p.state == "promoted"), None)
    return store.candidate(first.candidate) if first and first.candidate else None


def _looks_at_test_sets(store: Store, promotion: Promotion) -> int:
    """How often the promotion's most used test set has been looked at, this time included."""
    query = select(test_set_uses.c.digest).where(test_set_uses.c.promotion == promotion.id)
    with store.reading() as connection:
        digests = connection.scalars(query).all()
    return max((store.use_test_set(promotion.id, digest) for digest in digests), default=1)
