"""A promotion: a candidate's move into its next environment, from the run that tries it to its one end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sevenfold.candidates.candidate import Utc
from sevenfold.errors import SevenfoldError

State = Literal["running", "promoted", "refused", "held", "error", "superseded"]
End = Literal["promoted", "refused", "held", "error", "superseded"]
ENDS: tuple[End, ...] = ("promoted", "refused", "held", "error", "superseded")

END_OF: dict[str, End] = {
    "Successful": "promoted",
    "Inconclusive": "held",
    "Error": "error",
    "Failed": "refused",
}
"""How a promotion ends by the verdict on it."""


class UnknownPromotion(SevenfoldError):
    """No promotion has this id."""


class PromotionEnded(SevenfoldError):
    """The promotion has come to its end: nothing more can be done in its name."""


class Promotion(BaseModel):
    """One run of one environment. `candidate` is what it carries, `origin` what it was asked to carry.

    The two differ where an environment makes the candidate: training makes one from an idea of development.
    `as_of` is the moment of the data it looks at, `params` what the requester set, `verdict` and `outcome`
    how and why it ended.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    model: str
    environment: str
    run: str
    origin: str | None
    candidate: str | None
    as_of: Utc
    reason: str
    params: dict[str, Any]
    requested_by: str
    state: State
    verdict: str | None
    outcome: str | None
    began_at: Utc
    ended_at: Utc | None


@dataclass(frozen=True)
class PromotionEnd:
    """The end mark of a promotion, written in the same transaction as the change that it explains."""

    promotion: str
    state: End
    verdict: str
    reason: str


def promotion_id(model: str, environment: str, run: str) -> str:
    """`<model>/<environment>/<run>`: a retried task finds its promotion again."""
    return f"{model}/{environment}/{run}"
