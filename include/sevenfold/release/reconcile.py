"""Derived state: the router and the registry's aliases follow the release row. They may lag, never lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store
from sevenfold.release.release import row, traffic
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.traffic import Traffic

ROUNDS = 20
"""How often the row may change under a reconciler before it leaves the rest to the next one."""


class RouterAhead(SevenfoldError):
    """The router knows a generation that the row has not reached: the database is older than the router."""


class Router(Protocol):
    """What sends requests to candidates. It refuses generations older than its own."""

    def running(self) -> bool:
        """Whether it answers."""
        ...

    def apply(self, traffic: Traffic, /) -> str | None:
        """Makes this the split, and returns when it is in force; with a sentence, where that is not known."""
        ...

    def marks(self) -> set[str]:
        """What its access log says below everything that has been answered by now; see `answers`."""
        ...

    def traffic(self, model: str, /) -> Traffic | None:
        """The split in force; None before the first."""
        ...


class Aliases(Protocol):
    """Names in a model registry that follow the row."""

    def apply(self, row: ReleaseRow, /) -> None:
        """Makes the aliases those of this row; does nothing when they are of a later generation.

        Raises:
            RegistryUnavailable: they may be old now. The next reconciliation heals it.
        """
        ...


class RegistryUnavailable(SevenfoldError):
    """The model registry cannot be reached. Serving and release go on without it."""

    retry = True


@dataclass(frozen=True)
class Reconciled:
    """What is in force, why the aliases lag if they do, and where it may not be in force, if that is so."""

    traffic: Traffic
    aliases_lag: str | None = None
    in_doubt: str | None = None


def reconcile(store: Store, model: str, router: Router, aliases: Aliases | None = None) -> Reconciled:
    """Makes router and aliases those of the row, whoever changed it. Safe to repeat, and at the same time.

    Raises:
        RouterAhead: the router is of a later generation than the row, so the database was set back.
    """
    now = row(store, model)
    for _ in range(ROUNDS):
        wanted = traffic(now)
        in_doubt = _apply(router, wanted)
        lag = _apply_aliases(aliases, now)
        seen, now = now, row(store, model)
        if now.generation == seen.generation:
            _require_not_ahead(store, router, model)
            return Reconciled(wanted, lag, in_doubt)
    return Reconciled(wanted, f"the release row of {model} changes faster than it can be followed", in_doubt)


def _apply(router: Router, wanted: Traffic) -> str | None:
    """A router that refuses because it is ahead of us is right: somebody else has applied a later row."""
    if wanted.generation == 0:
        return None
    try:
        return router.apply(wanted)
    except SevenfoldError:
        there = router.traffic(wanted.model)
        if there is None or there.generation < wanted.generation:
            raise
        return None


def _require_not_ahead(store: Store, router: Router, model: str) -> None:
    there = router.traffic(model)
    now = row(store, model)  # read after the router: it only grows, so a router ahead of it is really ahead
    if there is not None and there.generation > now.generation:
        raise RouterAhead(
            f"The router of {model} is at generation {there.generation}, ahead of the release row's "
            f"{now.generation}: the evidence store was set back. Bring back its newest copy."
        )


def _apply_aliases(aliases: Aliases | None, now: ReleaseRow) -> str | None:
    if aliases is None or now.generation == 0:
        return None
    try:
        aliases.apply(now)
    except RegistryUnavailable as error:
        return str(error)
    return None
