"""Judges a promotion by what stands in the store now: gate, measurements, champion, anchor. Reads only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from sevenfold import clock
from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store
from sevenfold.evidence.tables import test_set_uses
from sevenfold.gates.analysis import AnalysisRun, judge
from sevenfold.gates.policy import load_gate
from sevenfold.people import gate_change
from sevenfold.people.anchor import anchor
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.settings import settings


class NothingToJudge(SevenfoldError):
    """The promotion carries no candidate: no activity has made one."""


def analyse(store: Store, identity: str, now: datetime) -> AnalysisRun:
    """The analysis of a promotion at this moment.

    Raises:
        NothingToJudge: it carries no candidate.
        InvalidFile: the gate's file is missing or wrong.
    """
    promotion = store.promotion(identity)
    if promotion.candidate is None:
        raise NothingToJudge(f"promotion {identity} carries no candidate: no activity has made one")
    candidate = store.candidate(promotion.candidate)
    champion = release.row(store, promotion.model).champion
    gate = load_gate(settings().models, promotion.model, promotion.environment)
    with store.reading() as connection:
        accepted = gate_change.accepted(connection, store.people, candidate, promotion.environment)
    return judge(
        gate,
        store.measurements(identity),
        candidate,
        promotion,
        now,
        champion=store.candidate(champion) if champion else None,
        accepted=accepted,
        anchor=anchor(store, promotion.model),
        uses=_looks_at_test_sets(store, promotion),
        refusal="" if gate.hash in accepted else gate_change.refused(store, candidate, gate),
        data_now=clock.now(store, promotion.model),
    )


def _looks_at_test_sets(store: Store, promotion: Promotion) -> int | None:
    """How often the promotion's most used test set was looked at, with this time; None if nobody counted."""
    query = select(test_set_uses.c.digest).where(test_set_uses.c.promotion == promotion.id)
    with store.reading() as connection:
        digests = connection.scalars(query).all()
    return max((store.use_test_set(promotion.id, digest) for digest in digests), default=None)
