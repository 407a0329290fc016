"""The anchor: a champion that is held fixed, so that slow decay over many small steps shows against it.

It is the model's first champion until two people say that another one is. A lower anchor is an easier gate,
so nobody sets it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import find_candidate
from sevenfold.evidence.tables import release_history
from sevenfold.people.request import Request, ask, find_requests, flaw

if TYPE_CHECKING:
    from sevenfold.candidates.candidate import Candidate
    from sevenfold.evidence.store import Store
    from sevenfold.people.identity import People


class NoAnchor(SevenfoldError):
    """A candidate that was never champion cannot be an anchor."""


def anchor(store: Store, model: str) -> Candidate | None:
    """The model's anchor; None before its first champion."""
    with store.reading() as connection:
        return find_anchor(connection, store.people, model)


def find_anchor(connection: Connection, people: People, model: str) -> Candidate | None:
    """The anchor: what was granted last and is signed by two, else the first champion."""
    for request in reversed(find_requests(connection, "anchor", model)):
        if request.granted_by is not None and flaw(people, request) is None:
            return find_candidate(connection, str(request.terms["candidate"]))
    first = (
        select(release_history.c.champion)
        .where(release_history.c.model == model, release_history.c.champion.is_not(None))
        .order_by(release_history.c.generation)
        .limit(1)
    )
    champion = connection.scalar(first)
    return find_candidate(connection, champion) if champion is not None else None


def request_anchor(
    store: Store, candidate: Candidate, reason: str, by: str, envelope: str | None = None
) -> Request:
    """Asks that this former or present champion be the anchor from now on.

    Raises:
        NoAnchor: it was never champion.
        BadRequest, UnknownPerson: see sevenfold.people.request.ask.
    """
    history = release_history
    query = select(history.c.generation).where(
        history.c.model == candidate.model, history.c.champion == candidate.id
    )
    with store.writing() as connection:
        if connection.scalar(query.limit(1)) is None:
            raise NoAnchor(f"Candidate {candidate.id} was never champion, so it cannot be an anchor.")
        terms = {"candidate": candidate.id}
        return ask(connection, store.people, "anchor", candidate.model, terms, reason, by, envelope)
