"""Small records of the evidence store: alerts of monitoring and reports that people look at."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from sevenfold.candidates.candidate import Utc
from sevenfold.errors import SevenfoldError

AlertState = Literal["open", "dismissed", "closed"]


class UnknownAlert(SevenfoldError):
    """No alert has this number."""


class Alert(BaseModel):
    """Something monitoring saw, with what was made of it. One per model, kind and window."""

    model_config = ConfigDict(frozen=True)

    id: int
    model: str
    kind: str
    window: str
    as_of: Utc
    severity: str
    value: float | None
    reason: str
    state: str
    outcome: str | None
    raised_at: Utc
    closed_at: Utc | None


class Report(BaseModel):
    """A file for people: its path below the artifact store and the sha256 (hex) of its bytes."""

    model_config = ConfigDict(frozen=True)

    promotion: str
    activity: str
    title: str
    path: str
    sha256: str
    at: Utc
