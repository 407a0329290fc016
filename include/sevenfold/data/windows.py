"""Which days train, which test, and which stay sealed until preproduction.

      training                                       |  test     |  sealed  |
    ──┬─────────────────────────────────┬────────────┼───────────┼──────────┤ as_of
    start                         stopping_days      └──── holdout_days ────┘

Everything is decided by `as_of` and the spec, so all environments agree without talking to each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sevenfold.candidates.candidate import Candidate
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec

Window = tuple[datetime, datetime]
"""From the first moment, up to but not including the second; UTC."""


@dataclass(frozen=True)
class Windows:
    """The windows as of a moment. A label that became known later than `as_of` does not exist yet."""

    as_of: datetime
    training: Window
    """All days to learn from, the stopping days included."""
    fitting: Window
    """The training window without its stopping days: what the weights are fitted to."""
    stopping: Window
    """The last days of the training window: they decide when training stops."""
    test: Window
    sealed: Window
    """Preproduction's: no environment before it looks at them."""


def windows(spec: ModelSpec, as_of: datetime, window_months: int | None = None) -> Windows:
    """The windows of `spec` as of a moment.

    Args:
        window_months: learn only from so many months before the holdout; None learns from all of the data.

    Raises:
        SevenfoldError: the data begin too late for a training window before `as_of`.
    """
    if window_months is not None and window_months < 1:
        raise SevenfoldError(f"window_months must be at least 1 or empty, not {window_months}")
    as_of = as_of.astimezone(UTC)
    holdout = as_of - timedelta(days=spec.windows.holdout_days)
    sealed = as_of - timedelta(days=spec.windows.sealed_days)
    start = spec.data.start
    if window_months is not None:
        start = max(start, months_before(holdout, window_months))
    stopping = holdout - timedelta(days=spec.windows.stopping_days)
    if stopping <= start:
        needed = spec.windows.holdout_days + spec.windows.stopping_days + 1
        raise SevenfoldError(
            f"as of {as_of:%Y-%m-%d} there is nothing to train {spec.name} on: its data begin on "
            f"{spec.data.starts} and {needed} days before as_of are needed"
        )
    return Windows(
        as_of=as_of,
        training=(start, holdout),
        fitting=(start, stopping),
        stopping=(stopping, holdout),
        test=(holdout, sealed),
        sealed=(sealed, as_of),
    )


def of_candidate(spec: ModelSpec, candidate: Candidate) -> Windows:
    """The windows as the candidate was made: its run may have shortened the training window."""
    found, start = windows(spec, candidate.as_of), candidate.train_window[0]
    return replace(found, training=(start, found.training[1]), fitting=(start, found.fitting[1]))


def rehearsal(spec: ModelSpec, as_of: datetime) -> Windows:
    """Development's windows: those as of the day the holdout begins.

    Ideas are compared inside the training window, so that none has seen the days it will be tested on.
    """
    return windows(spec, windows(spec, as_of).training[1])


def months_before(moment: datetime, months: int) -> datetime:
    """The same day of an earlier month, or that month's last day where it has no such day."""
    month = moment.year * 12 + moment.month - 1 - months
    first = moment.replace(year=month // 12, month=month % 12 + 1, day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return first.replace(day=min(moment.day, (following - timedelta(days=1)).day))
