"""A measurement: one reading of one metric of one candidate, with everything a gate needs to judge it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sevenfold.candidates.candidate import Utc

Baseline = Literal["none", "champion", "anchor"]


def _now() -> datetime:
    return datetime.now(UTC)


class Measurement(BaseModel):
    """One reading. `value` is None when nothing could be read; no rule lets that pass.

    `n` is the number of rows or requests behind it; `low` and `high` bound it. `digest` is the sha256 of the
    model file that was measured. `interval` is the key of a polling interval: a second reading of the same
    metric, slice and interval changes nothing. `counts` holds what a rule needs beyond one number, e.g. bad
    events and requests of challenger and champion: e1, n1, e0, n0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    promotion: str = Field(min_length=1)
    candidate: str
    activity: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    value: float | None
    unit: str = ""
    n: int = 0
    low: float | None = None
    high: float | None = None
    baseline: Baseline = "none"
    baseline_candidate: str | None = None
    baseline_value: float | None = None
    slice: str | None = None
    window_start: Utc | None = None
    window_end: Utc | None = None
    source: str = ""
    digest: str
    measured_at: Utc = Field(default_factory=_now)
    interval: str | None = None
    counts: dict[str, float] | None = None

    @property
    def key(self) -> str | None:
        """What makes a polled reading the same reading; None for one that is not polled."""
        if self.interval is None:
            return None
        return "|".join((self.metric, self.slice or "", self.baseline, self.interval))
