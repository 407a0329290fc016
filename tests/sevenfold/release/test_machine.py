"""Random lives of a model: everything people, gates and crashes do to its release row, in any order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event
from tests.sevenfold.evidence_world import APPROVER, MODEL, OPERATOR, World, analysis, candidate

from sevenfold.environments import before
from sevenfold.errors import SevenfoldError
from sevenfold.evidence import audit
from sevenfold.evidence.passing import EvidenceLacking
from sevenfold.evidence.revoke import revoke
from sevenfold.evidence.store import open_store
from sevenfold.evidence.verify import verify
from sevenfold.gates.conclude import conclude
from sevenfold.people.approval import record_approval
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.release.reconcile import reconcile
from sevenfold.release.release_row import ReleaseRow
from sevenfold.release.traffic import Traffic

LETTERS = st.sampled_from("abc")
VERDICTS = st.sampled_from(["Successful", "Successful", "Successful", "Failed", "Inconclusive", "Error"])
SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])
LIVES, STEPS = 10, 25
EARLIER = before("production")


class Crash(BaseException):
    """The process is gone in the middle of a statement or a commit."""


class Router:
    """Keeps the newest split it was given, and refuses older ones."""

    def __init__(self) -> None:
        self.now: Traffic | None = None

    def traffic(self, model: str) -> Traffic | None:
        return self.now

    def apply(self, traffic: Traffic) -> None:
        if self.now is not None and traffic.generation < self.now.generation:
            raise SevenfoldError("older")
        self.now = traffic


class Life(RuleBasedStateMachine):
    """What the test knows beside the store: who passed what, who was approved, who was rolled back."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="sevenfold-life-"))

    @initialize()
    def begin(self) -> None:
        shutil.copytree(_template(), self.home, dirs_exist_ok=True)
        self.store = open_store(f"sqlite:///{self.home}/evidence.db", self.home / "keys")
        self.world = World(self.store)
        self.router = Router()
        self.runs = 0
        self.passed = {
            (candidate(letter).id, environment): {f"{MODEL}/{environment}/{letter}-run"}
            for letter in "abc"
            for environment in EARLIER
        }
        self.approved = {candidate(letter).id for letter in "abc"}
        self.rolling: dict[str, Promotion] = {}
        self.before = self.world.row
        self.log: list[str] = []
        self.crash_in: int | None = None

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.engine.dispose()
        shutil.rmtree(self.home)

    # What gates and people do

    @rule(letter=LETTERS, environment=st.sampled_from(EARLIER), verdict=VERDICTS)
    def judge(self, letter: str, environment: str, verdict: str) -> None:
        made = candidate(letter)
        with self._maybe_crashing() as survived:
            ended = self.world.judged(made, environment, verdict, self._run())
        if survived():
            self._note(made.id, environment, verdict, ended.id)

    @rule(letter=LETTERS)
    def prove(self, letter: str) -> None:
        for environment in EARLIER:
            ended = self.world.judged(candidate(letter), environment, "Successful", self._run())
            self._note(candidate(letter).id, environment, "Successful", ended.id)
        record_approval(self.store, ended.id, APPROVER, "looks good")
        self.approved.add(candidate(letter).id)

    @rule(letter=LETTERS, share=SHARES)
    def start_roll_out(self, letter: str, share: float) -> None:
        promotion = self.world.begin(candidate(letter), "production", self._run())
        self.rolling[promotion.id] = promotion
        self._expose(promotion, share)

    @precondition(lambda self: self.rolling)
    @rule(data=st.data(), share=SHARES)
    def expose(self, data: st.DataObject, share: float) -> None:
        self._expose(self._one(data), share)

    def _expose(self, promotion: Promotion, share: float) -> None:
        with self._maybe_crashing():
            release.claim(self.store, promotion.id, OPERATOR)
            release.set_share(self.store, promotion.id, share, OPERATOR)

    @precondition(lambda self: self.rolling)
    @rule(data=st.data(), verdict=VERDICTS, again=st.booleans())
    def settle(self, data: st.DataObject, verdict: str, again: bool) -> None:
        promotion = self._one(data)
        with self._maybe_crashing():
            conclude(self.store, promotion.id, analysis(promotion, verdict))
            release.settle(self.store, promotion.id, OPERATOR)
            if again:
                release.settle(self.store, promotion.id, OPERATOR)
        ended = self.store.promotion(promotion.id)
        if (ended.state, ended.verdict) == ("refused", "Failed"):
            row = release.row(self.store, MODEL)
            assert row.promotion != promotion.id, "proven bad, and callers meet it"
            assert row.held is not None, "proven bad, and the next one may come"

    @precondition(lambda self: self.before.champion)
    @rule(repeat=st.booleans())
    def roll_back(self, repeat: bool) -> None:
        champion = release.row(self.store, MODEL).champion
        for _ in range(2 if repeat else 1):
            with self._maybe_crashing():
                release.roll_back(self.store, MODEL, OPERATOR, "complaints", champion)

    @precondition(lambda self: self.before.promotion)
    @rule()
    def call_off(self) -> None:
        tried, champion = self.before.promotion or "", self.before.champion
        with self._maybe_crashing() as survived:
            release.call_off(self.store, MODEL, OPERATOR, "complaints")
        if survived():
            row = release.row(self.store, MODEL)
            assert (row.champion, row.promotion, row.held) == (champion, None, "complaints")
            assert self.store.promotion(tried).state == "superseded"

    @precondition(lambda self: self.before.champion and self.before.previous)
    @rule()
    def come_back_after_a_roll_back(self) -> None:
        """S4: what was rolled back tries again on its old record."""
        bad = self.store.candidate(self.before.champion or "")
        try:
            release.roll_back(self.store, MODEL, OPERATOR, "complaints", bad.id)
        except EvidenceLacking:
            return  # of the one before: nobody goes back to it
        self.the_row_moved_lawfully()
        release.release_hold(self.store, MODEL, APPROVER, "go on")
        promotion = self.world.begin(bad, "production", self._run())
        self.rolling[promotion.id] = promotion
        self._expose(promotion, 0.5)

    @rule()
    def hold(self) -> None:
        with self._maybe_crashing():
            release.hold(self.store, MODEL, OPERATOR, "a freeze")

    @rule()
    def release_the_hold(self) -> None:
        with self._maybe_crashing():
            release.release_hold(self.store, MODEL, APPROVER, "go on")

    @precondition(lambda self: any(self.passed.values()))
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        known = sorted({promotion for passes in self.passed.values() for promotion in passes})
        promotion = data.draw(st.sampled_from(known))
        revoke(self.store, promotion, OPERATOR, "labels were wrong")
        for passes in self.passed.values():
            passes.discard(promotion)

    @precondition(lambda self: self.rolling)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        with self._maybe_crashing():
            self.store.end_promotion(self._one(data).id, "error", "Error", "its run was removed")

    @rule()
    def follow(self) -> None:
        reconcile(self.store, MODEL, self.router)
        assert self.router.now in (None, release.traffic(release.row(self.store, MODEL)))

    @rule(steps=st.integers(1, 12))
    def crash_soon(self, steps: int) -> None:
        self.crash_in = steps

    # What must hold after each of them

    @invariant()
    def the_row_moved_lawfully(self) -> None:
        if not hasattr(self, "store"):
            return
        row = release.row(self.store, MODEL)
        if row.champion != self.before.champion:
            self._require_lawful_champion(row)
        if row.share > (self.before.share if row.promotion == self.before.promotion else 0):
            assert self._proven(row.candidate), "S1: requests without the evidence for them"
            assert row.held is None, "a share while on hold"
        assert row.generation >= self.before.generation
        if replace(row, generation=0) != replace(self.before, generation=0):
            assert row.generation > self.before.generation, "S5: a change without a new generation"
        if row.promotion is not None:
            assert self.store.promotion(row.promotion).state == "running", "S3: a canary of nobody"
        self.before = row

    @invariant()
    def the_log_only_grows(self) -> None:
        if not hasattr(self, "store"):
            return
        lines = self.store.audit_lines()
        hashes = [line.hash for line in lines]
        assert audit.problems(lines) == []
        assert hashes[: len(self.log)] == self.log, "S6"
        self.log = hashes

    @invariant()
    def the_router_never_leads(self) -> None:
        if hasattr(self, "router") and self.router.now is not None:
            assert self.router.now.generation <= self.before.generation, "S2"

    @rule()
    def verify_everything(self) -> None:
        assert verify(self.store) == []

    # How the test knows

    def _require_lawful_champion(self, row: ReleaseRow) -> None:
        if row.champion == self.before.previous and row.held is not None:
            self.approved.discard(self.before.champion or "")  # S4: nothing from before counts any more
            self.passed.pop((self.before.champion or "", "preproduction"), None)
            return
        assert row.champion == self.before.candidate, "S2: a champion that nobody tried"
        assert self._proven(row.champion), "S1: a champion without its evidence"
        assert self.before.held is None, "a champion while on hold"
        ends = [p for p in self.store.promotions(MODEL, "production") if p.candidate == row.champion]
        assert any(p.state == "promoted" for p in ends), "S4: no end mark with the change"

    def _proven(self, made: str | None) -> bool:
        return made in self.approved and all(self.passed.get((made, e)) for e in EARLIER)

    def _note(self, made: str, environment: str, verdict: str, promotion: str) -> None:
        if verdict == "Successful":
            self.passed[made, environment] = {promotion}
        elif verdict == "Failed":
            self.passed.pop((made, environment), None)

    def _one(self, data: st.DataObject) -> Promotion:
        holder = self.before.promotion
        if holder in self.rolling and data.draw(st.booleans()):
            return self.rolling[holder]
        return self.rolling[data.draw(st.sampled_from(sorted(self.rolling)))]

    def _run(self) -> str:
        self.runs += 1
        return f"run-{self.runs}"

    @contextmanager
    def _maybe_crashing(self) -> Iterator[Callable[[], bool]]:
        """Refusals are lawful; a crash, if one is due, hits the n-th statement or commit of the step."""
        left, self.crash_in = self.crash_in, None
        alive = [True]

        def tick(*_: Any) -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left == 0:
                    raise Crash

        for name in ("before_cursor_execute", "commit"):
            event.listen(self.store.engine, name, tick)
        try:
            yield lambda: alive[0]
        except Crash:
            alive[0] = False
            self._learn()
        except SevenfoldError:
            alive[0] = False
        finally:
            for name in ("before_cursor_execute", "commit"):
                event.remove(self.store.engine, name, tick)

    def _learn(self) -> None:
        """After a crash it is either done or not: what the store says was concluded is what happened."""
        for environment in EARLIER:
            for promotion in self.store.promotions(MODEL, environment):
                if promotion.run == f"run-{self.runs}" and promotion.verdict and promotion.candidate:
                    self._note(promotion.candidate, environment, promotion.verdict, promotion.id)


TEMPLATE: list[Path] = []


def _template() -> Path:
    """A store with a champion, one before it, and a candidate that may go to production; made once."""
    if not TEMPLATE:
        home = Path(tempfile.mkdtemp(prefix="sevenfold-life-"))
        store = open_store(f"sqlite:///{home}/evidence.db", home / "keys")
        world = World(store)
        world.crowned("a")
        world.crowned("b")
        world.proven("c")
        store.engine.dispose()
        TEMPLATE.append(home)
    return TEMPLATE[0]


def teardown_module() -> None:
    for home in TEMPLATE:
        shutil.rmtree(home)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a life is short enough to read as it is
    suppress_health_check=[HealthCheck.too_slow],
)
