"""Who may serve: a candidate is let into a slot only with the evidence that the slot asks for."""

from __future__ import annotations

from typing import Protocol

from sevenfold.environments import before
from sevenfold.errors import SevenfoldError

LIVE = ("champion", "challenger")
"""Slots whose answers reach the callers of production."""

ENVIRONMENT_OF = {
    "testing": "testing",
    "staging": "staging",
    "shadow": "preproduction",
    "challenger": "production",
    "champion": "production",
}
"""The environment that a slot is part of; a candidate needs the evidence of those before it."""


class NotAdmitted(SevenfoldError):
    """A candidate without the evidence that its slot asks for."""


class UnknownSlot(SevenfoldError):
    """A slot that belongs to no environment."""


class Evidence(Protocol):
    """What admission asks of the evidence store."""

    def passed(self, candidate: str, environment: str, /) -> bool:
        """Whether the candidate has a complete, passing, signed, unrevoked statement of `environment`."""
        ...


def arm(slot: str) -> str:
    """The kind of a slot: `staging` of `staging` and of `staging-load`.

    Raises:
        UnknownSlot: no environment has such a slot.
    """
    kind = slot.partition("-")[0]
    if kind not in ENVIRONMENT_OF:
        raise UnknownSlot(
            f"there is no slot '{slot}'; one of {', '.join(ENVIRONMENT_OF)} is needed, or one of them "
            "with a suffix such as staging-load"
        )
    return kind


def require_admission(evidence: Evidence, candidate: str, slot: str) -> None:
    """Returns when `candidate` may serve in `slot`.

    Raises:
        NotAdmitted: an environment before the slot's one has no statement that lets the candidate pass.
        UnknownSlot: see `arm`.
    """
    missing = [name for name in before(ENVIRONMENT_OF[arm(slot)]) if not evidence.passed(candidate, name)]
    if missing:
        raise NotAdmitted(
            f"candidate {candidate} may not serve as {slot}: "
            f"it has no valid passing statement of {', '.join(missing)}"
        )
