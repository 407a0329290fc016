"""All histories of the release protocol: two promotions and a roll-back in every order, with kills anywhere.

The steps from row to row are the product's own functions (sevenfold.release.release_row). What is modelled
here is only who runs when: a process reads the row, decides, and swaps it if nobody else has. `naive` is
the usual way: read the champion, start a canary, gate, set the alias, set the router; on failure restore what
was read. It is here to show that the search finds what is wrong with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tests.sevenfold.evidence_world import AS_OF

from sevenfold.release.promotion import Promotion
from sevenfold.release.release_row import (
    NotClaimed,
    NothingBefore,
    ReleaseRow,
    SlotBusy,
    Unlawful,
    claimed,
    crowned,
    exposed,
    reverted,
    traffic,
    vacated,
)
from sevenfold.release.traffic import Traffic

FIRST, TRIED = "first", ("second", "third")
ROLL_BACK = "roll-back"
LONGEST = 8
"""More changes of the row than two promotions and a roll-back need: beyond it they undo each other."""


@dataclass(frozen=True)
class Process:
    """One that runs: a promotion named by its candidate, or the roll-back. `at` is its next step."""

    name: str
    at: str = "start"
    read: ReleaseRow | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class State:
    """Everything that outlives a kill, the processes, and how many kills there were."""

    row: ReleaseRow
    router: Traffic
    verdicts: frozenset[tuple[str, str]] = frozenset()
    ended: frozenset[str] = frozenset()
    rolled_back: frozenset[str] = frozenset()
    called_off: str | None = None
    processes: tuple[Process, ...] = ()
    kills: int = 0

    def verdict(self, candidate: str) -> str | None:
        """What the gate said; it says it once."""
        return next((said for name, said in self.verdicts if name == candidate), None)


@dataclass(frozen=True)
class Design:
    """A protocol: the steps of one process, and whether its safeguards are on."""

    steps: Callable[[State, int, Design], Iterator[tuple[str, State]]]
    end_marks: bool = True
    router_refuses: bool = True


@dataclass
class Found:
    """What a search saw: how many states, and one shortest history for each thing that went wrong."""

    states: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)


def explore(design: Design, kills: int, roll_back: bool = True) -> Found:
    """Walks through every history with at most `kills` kills, shortest first."""
    row = ReleaseRow("coin", champion=FIRST, previous=None, generation=1)
    names = (*TRIED, ROLL_BACK) if roll_back else TRIED
    begin = State(row, traffic(row), processes=tuple(Process(name) for name in names))
    came: dict[State, tuple[State, str] | None] = {begin: None}
    queue, found = deque([begin]), Found()

    def note(rule: str, state: State, last: str = "") -> None:
        if rule not in found.violations:
            found.violations[rule] = [*_history(came, state), *([last] if last else [])]

    while queue:
        state = queue.popleft()
        for rule in broken(state):
            note(rule, state)
        if state.row.generation > LONGEST:
            note("L2 finished promotions go on acting", state)
            break
        after = list(_after(design, state, kills))
        if not after and not _at_rest(state):
            note("L1 nobody can go on", state)
        for step, new in after:
            if new.router.generation < state.router.generation:
                note("S5 the router went back to an older generation", state, step)
            if new not in came:
                came[new] = (state, step)
                queue.append(new)
    found.states = len(came)
    return found


def broken(state: State) -> Iterator[str]:
    """The invariants that do not hold in this state."""
    champion, router = state.row.champion, state.router
    if champion != FIRST and state.verdict(champion or "") != "pass":
        yield "S1 a champion without a passing record"
    if router.champion != FIRST and state.verdict(router.champion or "") != "pass":
        yield "S1 all requests at a candidate without a passing record"
    if state.called_off is not None and state.called_off in (champion, state.row.candidate):
        yield "S4 a candidate that was called off is tried again"
    if not _at_rest(state):
        return
    if router.champion != champion:
        yield "S2 at rest the router serves another one than the row says"
    if router.challenger is not None or state.row.candidate is not None:
        yield "S3 at rest a candidate that nobody tries has requests"
    if champion in state.rolled_back:
        yield "S4 a champion that was rolled back is champion again"


def _after(design: Design, state: State, kills: int) -> Iterator[tuple[str, State]]:
    for index, process in enumerate(state.processes):
        if process.at == "done":
            continue
        yield from design.steps(state, index, design)
        if state.kills < kills and process.at != "start":
            killed = _with(state, index, Process(process.name))
            yield f"kill {process.name}, it starts again", replace(killed, kills=state.kills + 1)


def _with(state: State, index: int, process: Process) -> State:
    processes = (*state.processes[:index], process, *state.processes[index + 1 :])
    return replace(state, processes=processes)


def _at_rest(state: State) -> bool:
    return all(process.at == "done" for process in state.processes)


def _history(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    while (before := came[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]


@lru_cache
def _promotion(name: str) -> Promotion:
    return Promotion(
        id=name, model="coin", environment="production", run=name, origin=name, candidate=name, as_of=AS_OF,
        reason="", params={}, requested_by="", state="running", verdict=None, outcome=None, began_at=AS_OF,
        ended_at=None,
    )  # fmt: skip


# Ours


def fenced(state: State, index: int, design: Design) -> Iterator[tuple[str, State]]:
    """Read the row, decide, swap it if it is still the same, and let the router follow the row."""
    process = state.processes[index]
    name, read = process.name, process.read
    to = lambda at, **more: _with(state, index, replace(process, at=at, **more))  # noqa: E731

    if process.at == "reconcile":
        yield f"{name} reads the row for the router", to("apply", read=state.row)
    elif process.at == "apply" and read is not None:
        newer = read.generation > state.router.generation
        if newer or not design.router_refuses:
            yield f"{name} sets the router", replace(to("start", read=None), router=traffic(read))
        else:
            yield f"{name}: the router is newer", to("start", read=None)
    elif process.at == "start" and state.router.generation < state.row.generation:
        yield f"{name} finds the router behind", to("reconcile")
    elif name == ROLL_BACK:
        yield from _roll_back(state, index, design)
    else:
        yield from _promote(state, index, design)


def _promote(state: State, index: int, design: Design) -> Iterator[tuple[str, State]]:
    process = state.processes[index]
    name, read = process.name, process.read
    if process.at == "start":
        if name in state.ended:
            yield f"{name} has ended", _with(state, index, replace(process, at="done"))
            return
        try:
            claimed(state.row, _promotion(name))
        except SlotBusy:
            return
        except Unlawful:
            yield f"{name} is champion", _with(state, index, replace(process, at="done"))
            return
        yield f"{name} reads the row", _with(state, index, replace(process, at="decide", read=state.row))
    elif process.at == "decide" and read is not None:
        wanted = exposed(claimed(read, _promotion(name)), name, 0.5, None)
        if wanted == read:
            for said in [known] if (known := state.verdict(name)) else ["pass", "fail"]:
                judged = replace(process, at="end", verdict=said)
                recorded = state.verdicts | {(name, said)}
                yield (
                    f"the gate says {said} of {name}",
                    replace(_with(state, index, judged), verdicts=recorded),
                )
        else:
            yield _swap(state, index, wanted, f"{name} claims the slot")
    elif process.at == "end" and read is not None:
        try:
            after = crowned(read, name) if process.verdict == "pass" else vacated(read, name)
        except NotClaimed:
            yield f"{name} looks again", _with(state, index, Process(name))
            return
        what, new = _swap(state, index, after, f"{name} ends with {process.verdict}")
        swapped = new.row.generation > state.row.generation
        yield what, replace(new, ended=state.ended | {name}) if swapped and design.end_marks else new


def _roll_back(state: State, index: int, design: Design) -> Iterator[tuple[str, State]]:
    """The operator acts once: takes off who is being tried, or goes back from whoever serves at first."""
    process = state.processes[index]
    if process.at == "start":
        done = state.rolled_back or state.called_off
        if done or (state.row.champion == FIRST and not state.row.share):
            yield "nothing to roll back", _with(state, index, replace(process, at="done"))
        else:
            yield "roll-back reads the row", _with(state, index, replace(process, at="swap", read=state.row))
    elif process.at == "swap" and process.read is not None:
        read = process.read
        if read.promotion is not None and read.share:
            what, new = _swap(state, index, vacated(read, read.promotion), f"{read.promotion} is called off")
            swapped = new.row.generation > state.row.generation
            ended = state.ended | {read.promotion} if design.end_marks else state.ended
            yield what, replace(new, ended=ended, called_off=read.promotion) if swapped else new
        if read.champion == FIRST:
            return
        try:
            after = replace(reverted(read, read.champion or "", None, "bad"), held=None)
        except NothingBefore:
            yield "no one before", _with(state, index, replace(process, at="done"))
            return
        what, new = _swap(state, index, after, f"roll-back from {read.champion}")
        if new.row.generation > state.row.generation:
            superseded = {read.promotion} if read.promotion else set()
            new = replace(
                new,
                ended=state.ended | superseded,
                rolled_back=state.rolled_back | {read.champion or ""},
            )
        yield what, new


def _swap(state: State, index: int, after: ReleaseRow, what: str) -> tuple[str, State]:
    process = state.processes[index]
    assert process.read is not None
    if process.read.generation != state.row.generation:
        return f"{what}: the row has changed", _with(state, index, Process(process.name))
    new = replace(after, generation=state.row.generation + 1)
    return what, replace(_with(state, index, Process(process.name, "reconcile")), row=new)


# The usual way


def naive(state: State, index: int, design: Design) -> Iterator[tuple[str, State]]:
    """An alias and a router, each set without a look at what it was; on failure what was read is restored."""
    process = state.processes[index]
    name, read = process.name, process.read
    to = lambda at, **more: _with(state, index, replace(process, at=at, **more))  # noqa: E731

    def route(champion: str | None, challenger: str | None) -> Traffic:
        split = 0.5 if challenger else 0.0
        return Traffic("coin", champion, challenger, split, generation=state.router.generation)

    if process.at == "start":
        yield f"{name} reads champion {state.row.champion}", to("begin", read=state.row)
        return
    assert read is not None
    if name == ROLL_BACK:
        back = read.previous or read.champion
        if process.at == "begin":
            gone = {read.champion or ""} if back != read.champion else set()
            alias = replace(state.row, champion=back, previous=back)
            yield (
                f"{name} sets the alias to {back}",
                replace(to("route"), row=alias, rolled_back=state.rolled_back | gone),
            )
        else:
            yield f"{name} sets the router to {back}", replace(to("done"), router=route(back, None))
    elif process.at == "begin":
        yield f"{name} starts its canary", replace(to("gate"), router=route(state.router.champion, name))
    elif process.at == "gate":
        for said in [known] if (known := state.verdict(name)) else ["pass", "fail"]:
            recorded = replace(to("act", verdict=said), verdicts=state.verdicts | {(name, said)})
            yield f"the gate says {said} of {name}", recorded
    elif process.at == "act" and process.verdict == "pass":
        alias = replace(state.row, champion=name, previous=read.champion)
        yield f"{name} sets the alias to itself", replace(to("route"), row=alias)
    elif process.at == "act":
        yield (
            f"{name} restores router {read.champion}",
            replace(to("done"), router=route(read.champion, None)),
        )
    else:
        yield f"{name} sets the router to itself", replace(to("done"), router=route(name, None))
