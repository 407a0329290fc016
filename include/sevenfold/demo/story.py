"""Plays a model's story on the real stack and tells what happens, as it happens.

The story itself (which days, which trainings) is the model's: entry point `story` of its model.yaml gets a
`Narrator`. Everything here can be stopped at any moment and started again: runs have fixed ids, days that
were played are not played twice, and what has been decided stays decided.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape

from sevenfold.errors import SevenfoldError
from sevenfold.evidence.store import Store
from sevenfold.local.airflow_client import AirflowClient
from sevenfold.model.spec import ModelSpec
from sevenfold.release import release
from sevenfold.release.promotion import Promotion
from sevenfold.settings import Settings

ENDED_BADLY = ("refused", "held", "error", "superseded")

LIVE_DAY_S = 1.5
"""Seconds that a day of live traffic takes at least, so that a roll-out happens in weeks, not in months."""

Player = Callable[[datetime, datetime], Any]
"""Plays the real requests of [start, end) through the gateway and brings their labels back."""


class StoryStopped(SevenfoldError):
    """The story cannot go on: what should have happened next did not."""


class Narrator:
    """Acts as the people of the story (requester, approver, callers of the model) and tells what they see."""

    def __init__(
        self,
        spec: ModelSpec,
        store: Store,
        settings: Settings,
        requester: AirflowClient,
        approver: AirflowClient,
        player: Player,
        console: Console,
        approve_after: float | None,
    ) -> None:
        self.spec = spec
        self.model = spec.name
        self.store = store
        self.settings = settings
        self.requester = requester
        self.approver = approver
        self.console = console
        self.approve_after = approve_after
        self._player = player
        self._told: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._playing: threading.Thread | None = None
        self._trouble: Exception | None = None
        self._started = time.monotonic()

    # What the story may do

    def chapter(self, title: str) -> None:
        """Opens the next part of the story."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """One line, with the seconds since the beginning."""
        self.console.print(f"[dim]{time.monotonic() - self._started:5.0f} s[/]  {text}", highlight=False)

    def start(self, environment: str, run: str, **conf: Any) -> None:
        """Starts a run of an environment's DAG, as a person does with the form in the Airflow UI."""
        new = self.requester.trigger(f"{self.model}.{environment}", conf, run)
        given = ", ".join(f"{name} {value}" for name, value in conf.items() if name != "reason")
        self.say(
            f"{environment}: {conf.get('reason', run)} ({given})" + ("" if new else "; was started before")
        )

    def begin_on(self, day: date) -> None:
        """Sets the model's clock to the beginning of `day`, unless the story has begun before."""
        if self.store.get_clock(self.model) is None:
            self.store.set_clock(self.model, _midnight(day))

    def play(self, first: date, end: date) -> None:
        """Plays all flights of the days from `first` up to, not including, `end` that were not played yet."""
        start, stop = max(_midnight(first), self.played_until), _midnight(end)
        if start >= stop:
            return
        days = (stop - start).days
        self.say(f"playing {days} days of real requests, {start:%-d %B} to {stop - timedelta(days=1):%-d %B}")
        self._play(start, stop)
        self._settle()

    @property
    def played_until(self) -> datetime:
        """The moment that live traffic has reached."""
        return self.store.get_clock(self.model) or datetime.min.replace(tzinfo=UTC)

    def monitor(self, day: date) -> None:
        """Runs monitoring as of the beginning of `day`, and waits for it."""
        run = f"story-{day:%Y-%m-%d}"
        dag = f"{self.model}.monitoring"
        self.requester.trigger(dag, {"as_of": f"{day:%Y-%m-%d}", "reason": "a week has ended"}, run)
        self.wait(lambda: self.requester.run(dag, run)["state"] in ("success", "failed"), f"monitoring {run}")
        if self.requester.run(dag, run)["state"] == "failed":
            raise StoryStopped(f"monitoring as of {day} failed: see run {run} of {dag} in the Airflow UI")
        for alert in self.store.alerts(self.model):
            if alert.window not in self._told:
                self._told[alert.window] = alert.state
                colour = "red" if alert.state == "open" else "yellow"
                self.say(f"[{colour}]alert, {alert.state}[/]: {escape(alert.reason)}")

    def follow(self, origin: Callable[[Promotion], bool], *, goal: str) -> Promotion:
        """Follows a candidate from the promotion that `origin` picks until it has left `goal`, or stops.

        While the router sends it a share or a mirror of the traffic, one day of live traffic after the other
        is played. Returns the promotion out of `goal`, or the one that ended its way.
        """
        found: list[Promotion] = []

        def ended() -> bool:
            line = self._line(origin)
            if not line:
                return False
            self._serve_traffic()
            through = [move for move in line if (move.environment, move.state) == (goal, "promoted")]
            found[:] = through or line
            return bool(through) or line[-1].state in ENDED_BADLY

        self.wait(ended, f"a candidate to leave {goal}")
        self._settle()
        return found[-1]

    def wait(self, until: Callable[[], bool], what: str, limit: float = 1200) -> None:
        """Waits, telling every promotion that begins or ends and every approval that is asked for."""
        deadline = time.monotonic() + limit
        while not until():
            self._tell()
            self._approve()
            if self._trouble:
                raise self._trouble
            if time.monotonic() > deadline:
                raise StoryStopped(
                    f"waited {limit / 60:.0f} minutes for {what}: look at the runs in the Airflow UI"
                )
            time.sleep(0.5)
        self._tell()

    # How it is told

    def _line(self, origin: Callable[[Promotion], bool]) -> list[Promotion]:
        """The promotions of one candidate and of what was trained from it, in their order."""
        moves = sorted(
            (p for p in self.store.promotions(self.model) if p.environment != "monitoring"),
            key=lambda promotion: promotion.began_at,
        )
        first = next((number for number, promotion in enumerate(moves) if origin(promotion)), None)
        if first is None:
            return []
        line = [moves[first]]
        for promotion in moves[first + 1 :]:
            known = {step.candidate for step in line if step.candidate}
            if known & {promotion.origin, promotion.candidate}:
                line.append(promotion)
        return line

    def _tell(self) -> None:
        for promotion in self.store.promotions(self.model):
            if promotion.environment == "monitoring" or self._told.get(promotion.id) == promotion.state:
                continue
            began = promotion.id not in self._told
            self._told[promotion.id] = promotion.state
            if promotion.state == "running":
                if began:
                    self.say(f"{promotion.environment}: {promotion.candidate or 'a new candidate'} ...")
                continue
            colour = {"promoted": "green", "refused": "red", "error": "red"}.get(promotion.state, "yellow")
            took = ((promotion.ended_at or datetime.now(UTC)) - promotion.began_at).total_seconds()
            self.say(
                f"{promotion.environment}: {promotion.candidate or 'no candidate'} "
                f"[{colour}]{promotion.state}[/] after {took:.0f} s. {escape(promotion.outcome or '')}"
            )

    def _approve(self) -> None:
        for asked in self.approver.awaiting_approval():
            task = asked["task_instance"]
            if not str(task["dag_id"]).startswith(f"{self.model}."):
                continue
            new = str(task["id"]) not in self._asked
            since = self._asked.setdefault(str(task["id"]), time.monotonic())
            if new:
                where = f"{self.settings.airflow_url}/required_actions"
                wait = (
                    ""
                    if self.approve_after is None
                    else f"; the demo does it itself in {self.approve_after:.0f} s"
                )
                self.say(
                    f"[bold]a person must approve {task['dag_id']}[/]: sign in as approver, {where}{wait}"
                )
            if self.approve_after is not None and time.monotonic() - since >= self.approve_after:
                self.approver.answer(
                    asked, "Approve", {"reason": "approved by the demo after its stated wait"}
                )
                self.say("approved, as the user 'approver'")

    def _serve_traffic(self) -> None:
        row = release.row(self.store, self.model)
        wanted = row.champion is not None and (row.share > 0 or row.mirror > 0)
        if wanted and not (self._playing and self._playing.is_alive()):
            start = self.played_until
            day = (start, start + timedelta(days=1), LIVE_DAY_S)
            self._playing = threading.Thread(target=self._play, args=day, daemon=True)
            self._playing.start()

    def _settle(self) -> None:
        if self._playing:
            self._playing.join()
            self._playing = None
        if self._trouble:
            raise self._trouble

    def _play(self, start: datetime, end: datetime, pace: float = 0.0) -> None:
        began = time.monotonic()
        try:
            self._player(start, end)
            time.sleep(max(0.0, pace - (time.monotonic() - began)))
        except Exception as error:  # told by whoever waits for the traffic
            self._trouble = error


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def origin_run(run: str) -> Callable[[Promotion], bool]:
    """Picks the promotion that the run `run` began."""
    return lambda promotion: promotion.run == run
