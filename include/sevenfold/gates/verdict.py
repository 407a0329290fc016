"""The four verdicts and their one total order: Successful < Inconclusive < Error < Failed."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What a gate says, of one metric or of a whole analysis run."""

    SUCCESSFUL = "Successful"
    """Proven good enough: promote."""
    INCONCLUSIVE = "Inconclusive"
    """Proven neither way: keep the champion, let the sample grow until the deadline, then ask a person."""
    ERROR = "Error"
    """Nothing usable was measured: measure again, then hold. Never a pass, never a roll-back by itself."""
    FAILED = "Failed"
    """Proven not good enough: reject, and roll back what is live."""

    # A string's own order is alphabetical, by which Successful would be the worst.
    def __lt__(self, other: str) -> bool:
        return _rank(self) < _rank(other)

    def __le__(self, other: str) -> bool:
        return _rank(self) <= _rank(other)

    def __gt__(self, other: str) -> bool:
        return _rank(self) > _rank(other)

    def __ge__(self, other: str) -> bool:
        return _rank(self) >= _rank(other)


_ORDER = tuple(Verdict)


def _rank(verdict: str) -> int:
    return _ORDER.index(Verdict(verdict))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of many: the worst of them. Of none it is Error, for nothing was judged."""
    return max(verdicts, default=Verdict.ERROR)
