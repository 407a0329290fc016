"""One check of security or compliance, and what it found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was looked at, and a sentence for each thing that is wrong.

    `note` says what the check could not see: a check that looked at nothing is no pass.
    """

    metric: str
    title: str
    unit: str
    looked_at: int
    problems: tuple[str, ...] = ()
    note: str = ""
