"""The rows on which development tries an idea: a sample, all of it inside the window that training will have.

No idea sees the days that it will be tested on. The days that the sample is compared on, and the last ones,
which stay untouched until the idea is validated, are those of the windows as of the day the holdout begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.data.sample import sample
from sevenfold.data.windows import Window, Windows, rehearsal
from sevenfold.errors import SevenfoldError
from sevenfold.model.spec import ModelSpec, Search

if TYPE_CHECKING:
    import pyarrow as pa

    from sevenfold.data.snapshot import Snapshot

SAMPLE_ROWS = 15_000
SMALLEST_SAMPLE, LARGEST_SAMPLE = 1_000, 1_000_000
SEARCH = Search(trials=4, minutes=5, rows=SAMPLE_ROWS)
"""What the small search of development may cost, unless a run says otherwise."""


@dataclass(frozen=True)
class Sample:
    """A sample of the rows to learn from, all rows to stop and to compare on, and where they are from."""

    spec: ModelSpec
    snapshot: Snapshot
    windows: Windows
    seed: int
    fitting: pa.Table
    stopping: pa.Table
    test: pa.Table

    @property
    def digest(self) -> str:
        """SHA-256 of the data that the sample is drawn from."""
        return self.snapshot.digest(*self.windows.training, self.windows.as_of)

    @property
    def holdout(self) -> Window:
        """The days compared on and the untouched ones behind them: what an idea is validated on."""
        return self.windows.test[0], self.windows.sealed[1]

    def labelled(self, window: Window, columns: tuple[str, ...] = ()) -> pa.Table:
        """All labelled rows of a window, as known when the rehearsal takes place."""
        wanted = columns or self.spec.columns
        return self.snapshot.labelled(*window, self.windows.as_of, wanted)


def rehearse(
    spec: ModelSpec,
    as_of: datetime,
    params: Mapping[str, Any],
    data: Path | None = None,
    progress: Callable[[str], None] = print,
) -> Sample:
    """The sample that the form of a run asks for: `sample_rows` and `seed`, each with a default.

    Raises:
        SevenfoldError: the sample would be too small or too large, or the data begin too late.
    """
    from sevenfold.data.snapshot import snapshot  # the form of a DAG needs the limits above, and no pyarrow

    seed, rows = int(params.get("seed") or 0), int(params.get("sample_rows") or SAMPLE_ROWS)
    if not 1 <= rows <= LARGEST_SAMPLE:
        raise SevenfoldError(f"sample_rows must lie between 1 and {LARGEST_SAMPLE:,}, not {rows:,}")
    of, all_rows = rehearsal(spec, as_of), snapshot(spec, data, progress)
    fitting, stopping, test = (
        all_rows.labelled(*window, of.as_of, spec.columns) for window in (of.fitting, of.stopping, of.test)
    )
    return Sample(spec, all_rows, of, seed, sample(fitting, rows, seed), stopping, test)
