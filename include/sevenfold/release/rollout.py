"""A roll-out in steps: how much traffic next, and when to stop.

`decide` is the whole logic, pure; `roll_out` carries it out. Nothing here judges: each poll is measured, the
gate's own rules are asked on everything so far, `Failed` stops at once, and the last step goes on until they
say `Successful` or its time is up. Its end is no verdict: the gate decides on what was measured.

A roll-out may be killed at any point and run again. It continues at the step whose share is set already, and
each poll has its own span of time as its key, so nothing is counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sevenfold.errors import SevenfoldError
from sevenfold.gates.verdict import Verdict


@dataclass(frozen=True)
class Step:
    """One level of exposure: the share, and what must be seen at it before the next one.

    `requests` is the least number of requests that the challenger has to answer, `seconds` the least time,
    `limit_s` the most: a step that has not seen enough by then ends the roll-out.
    """

    share: float
    requests: int = 200
    seconds: float = 2.0
    limit_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise SevenfoldError(f"a step's share is above 0 and at most 1, not {self.share}")


@dataclass(frozen=True)
class Arm:
    """What one side of the split answered in some span of time."""

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def __add__(self, other: Arm) -> Arm:
        return Arm(self.requests + other.requests, self.errors + other.errors, self.slow + other.slow)


class Next(StrEnum):
    """What comes after a poll."""

    STAY = "stay"
    ADVANCE = "advance"
    STOP = "stop"
    HOLD = "hold"


@dataclass(frozen=True)
class Outcome:
    """How a roll-out ended and at which share: `finished` all steps, `failed` by the rules, or neither."""

    finished: bool
    share: float
    polls: int
    reason: str
    failed: bool = False


def resume(steps: Sequence[Step], share: float) -> Sequence[Step]:
    """The steps that are left when `share` is set already: a retry goes on where it was, never back."""
    return [step for step in steps if step.share >= share - 1e-9] or steps[-1:]


def decide(step: Step, requests: int, seconds: float, verdict: Verdict, last: bool) -> Next:
    """What to do after the challenger has answered `requests` in `seconds` at this step.

    `verdict` is on everything measured so far. Before the last step an open one holds nothing up.
    """
    if verdict is Verdict.FAILED:
        return Next.STOP
    enough = requests >= step.requests and seconds >= step.seconds
    if enough and (verdict is Verdict.SUCCESSFUL or not last):
        return Next.ADVANCE
    return Next.HOLD if seconds >= step.limit_s else Next.STAY


def roll_out(
    steps: Sequence[Step],
    *,
    set_share: Callable[[float], None],
    poll: Callable[[Step], Arm],
    judge: Callable[[], tuple[Verdict, str]],
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Goes through the steps.

    Args:
        steps: the steps that are left (see `resume`).
        set_share: makes this share of live requests go to the challenger; returns when it does.
        poll: waits for one polling interval, measures it, and returns the challenger's part in it.
        judge: verdict and reason of the gate's rules on everything measured so far.
        say: gets one line of progress a poll.
        clock: seconds.
    """
    polls = 0
    for step in steps:
        set_share(step.share)
        started, seen = clock(), Arm()
        while True:
            seen += poll(step)
            polls += 1
            seconds, (verdict, reason) = clock() - started, judge()
            say(
                f"{step.share:.0%}: {seen.requests:,} of {step.requests:,} requests, "
                f"{seen.errors} errors, {seen.slow} slow in {seconds:.1f} s; {verdict}"
            )
            after = decide(step, seen.requests, seconds, verdict, last=step is steps[-1])
            if after is Next.STOP:
                why = f"stopped at {step.share:.0%}: {reason}"
                return Outcome(False, step.share, polls, why, failed=True)
            if after is Next.HOLD:
                seen_so_far = f"{seen.requests:,} of {step.requests:,} requests in {seconds:.0f} s, {reason}"
                return Outcome(False, step.share, polls, f"undecided at {step.share:.0%}: {seen_so_far}")
            if after is Next.ADVANCE:
                break
    return Outcome(True, steps[-1].share, polls, f"went through {len(steps)} steps to {steps[-1].share:.0%}")
