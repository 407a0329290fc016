"""What monitoring looks at: the champion, its matured weeks, its joined rows and its reference."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sevenfold.activity import Activity
from sevenfold.candidates.artefact import Scorer
from sevenfold.candidates.candidate import Candidate
from sevenfold.data.snapshot import snapshot
from sevenfold.data.weeks import LENGTH, Week, complete, midnight
from sevenfold.monitoring import alarm, drift, joined
from sevenfold.serving.pseudonyms import Pseudonyms, pseudonyms

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
"""Arms of the prediction log that real traffic goes to."""


class Watch:
    """One run of monitoring: everything as it was known at the promotion's `as_of`."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.as_of = activity.promotion.as_of
        self.home = activity.settings.shared / "monitoring" / activity.promotion.model
        self.folder = joined.folder(activity.settings.shared, activity.promotion.model)

    @cached_property
    def rule(self) -> alarm.AlarmRule:
        """The model's alarm rule."""
        return alarm.load_rule(self.activity.spec.folder)

    @cached_property
    def champion(self) -> Candidate | None:
        """The candidate that this run watches: the one that its promotion carries, else the champion.

        A promotion that carries nobody gets the champion, so that measurements say whom they are of.
        """
        promotion = self.activity.store.promotion(self.activity.promotion.id)
        if promotion.candidate is not None:
            return self.activity.store.candidate(promotion.candidate)
        if self.activity.champion is not None:
            self.activity.store.set_promotion_candidate(promotion.id, self.activity.champion.id)
        return self.activity.champion

    @cached_property
    def end(self) -> datetime:
        """All labels before this moment must be known."""
        return joined.matured(self.as_of, self.rule.maturity)

    @cached_property
    def weeks(self) -> list[Week]:
        """The last complete, matured weeks, as many as the rule looks back."""
        anchor = self.activity.spec.data.starts
        start = self.end - (self.rule.look_back + 1) * LENGTH
        return complete(anchor, start, self.end)[-self.rule.look_back :]

    def rows(
        self,
        columns: Sequence[str] | None = None,
        arms: Sequence[str] = (CHAMPION,),
        start: datetime | None = None,
    ) -> pa.Table:
        """Joined rows of real traffic, all candidates, matured and as known at `as_of`."""
        return joined.read(self.folder, self.as_of, self.rule.maturity, start, columns, arms)

    def served(self, rows: pa.Table) -> list[Week]:
        """The weeks that `rows` fill: one in the middle of which the champion began is not complete."""
        if not rows.num_rows:
            return []
        began = midnight(pc.min(rows["time"]).as_py().date())
        return [week for week in self.weeks if week.start >= began]

    def champion_rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """What the watched champion answered as champion, in the weeks that the rule looks back."""
        rows = self.rows(columns, start=self.weeks[0].start if self.weeks else self.end)
        candidate = self.champion.id if self.champion else ""
        return rows.filter(pc.equal(rows["candidate"], candidate))

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """What stands for personal features in the logs, by today's key; None if there are none."""
        return pseudonyms(self.activity.spec, self.activity.settings.secrets)

    def reference_file(self, candidate: Candidate) -> Path:
        """Where a candidate's reference is kept: one for each key, and each choice of what is personal."""
        name, hidden = candidate.id, self.pseudonyms
        if hidden:
            rule = f"{hidden.name} {hidden.hashed} {hidden.left_out}"
            name += f"-{hashlib.sha256(rule.encode()).hexdigest()[:12]}"
        return self.home / "references" / f"{name}.json"

    def reference(self, candidate: Candidate) -> drift.Reference:
        """The frozen reference of a candidate, made of its training rows at first use."""
        spec, hidden, path = self.activity.spec, self.pseudonyms, self.reference_file(candidate)
        if path.exists():
            return drift.Reference.model_validate_json(path.read_text())
        with self.activity.phase(f"making the reference of {candidate.id} from its training rows"):
            rows = snapshot(spec, self.activity.settings.data).rows(
                *candidate.train_window, columns=spec.columns
            )
            scores = spec.task.score(Scorer(self.activity.model_file(candidate)).predict(rows))
            reference = drift.reference(
                candidate.id,
                hidden.table(rows, spec.categorical) if hidden else rows,
                scores,
                candidate.train_window,
                [name for name in spec.numeric if name not in spec.privacy.personal],
                [name for name in spec.categorical if name not in spec.privacy.left_out],
                spec.data.starts,
            )
        keep(path, reference.model_dump_json(indent=1))
        return reference


def keep(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text)
    half.replace(path)
