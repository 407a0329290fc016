"""Readings taken before there is a candidate: of data that are explored, of settings that are sought.

They are kept with the hash of the data that they are about, and become readings of the candidate that the
same promotion then makes of exactly these data. A candidate made of other data gets none of them, so its gate
finds them missing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sevenfold.errors import SevenfoldError
from sevenfold.gates.measurement import Measurement

if TYPE_CHECKING:
    from sevenfold.activity import Activity
    from sevenfold.candidates.candidate import Candidate

FILE = "beforehand.json"


@dataclass
class Beforehand:
    """The readings of one activity that comes before its candidate; `data` is the hash of its data."""

    activity: Activity
    data: str
    readings: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, metric: str, value: float, *, unit: str = "", n: int = 0) -> None:
        """Takes one reading (see Activity.measure)."""
        self.readings.append(
            {
                "metric": metric,
                "value": value,
                "unit": unit,
                "n": n,
                "activity": self.activity.name,
                "source": f"{self.activity.promotion.environment}.{self.activity.name}",
                "measured_at": datetime.now(UTC).isoformat(),
            }
        )
        print(f"measured {metric}: {value:.4g} {unit} on {n:,}".rstrip(), flush=True)

    def keep(self) -> None:
        """Keeps the readings until there is a candidate."""
        content = json.dumps({"data": self.data, "readings": self.readings}, indent=1)
        self.activity.report(FILE, content, f"Readings of {self.activity.name}")


def claim(activity: Activity, candidate: Candidate) -> None:
    """Records, as readings of `candidate`, what was read of its data earlier in this promotion.

    Raises:
        SevenfoldError: kept readings are not what they were.
    """
    promotion = activity.promotion.id
    newest = {
        report.path: report
        for report in activity.store.reports(promotion)
        if report.path.endswith(f"/{FILE}")
    }
    for path, report in newest.items():
        content = activity.artifacts.read(path)
        if hashlib.sha256(content).hexdigest() != report.sha256:
            raise SevenfoldError(f"{path} was altered since {report.activity} wrote it: run it again")
        kept = json.loads(content)
        if kept["data"] != candidate.data_snapshot:
            activity.progress(f"what {report.activity} has read is about other data: it does not count")
            continue
        activity.store.record(
            Measurement.model_validate(
                reading
                | {"promotion": promotion, "candidate": candidate.id, "digest": candidate.model_digest}
            )
            for reading in kept["readings"]
        )
