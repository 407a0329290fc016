"""Rows at the edge of what callers may send, and beyond it: each is answered or refused, never half of both.

An answer is one finite prediction a row within the bounds of the model's output. A refusal is a status of 4xx
with a sentence. Anything else (a 500, a closed connection, an answer that is no number) is a broken promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from sevenfold.data.tabular import Encoder
from sevenfold.serving.protocol import MAX_BODY, MAX_ROWS
from sevenfold.trials.conformance import CLOSE, Broken, Check, kept

if TYPE_CHECKING:
    import httpx

Row = dict[str, Any]
Expected = Literal["answered", "refused", "either"]

LARGEST = 3.4e38
"""Nearly the largest float32."""
BEYOND = 10.0
"""So many times beyond what its column holds a number is still answered."""
STRANGE_TEXTS = ("never seen before", "", "x" * 10_000, "Zürich ✈ 東京\u0000\n", "'; DROP TABLE rows; --")


@dataclass(frozen=True)
class Case:
    """One request, and what must become of it."""

    name: str
    rows: int
    body: bytes
    expected: Expected


class EdgeCases:
    """Asks a running server about edge cases of one candidate.

    Args:
        client: whose base URL is the server's.
        rows: a few ordinary rows by feature, None for missing.
        reach: the lowest and the highest number that each numeric column holds.
    """

    def __init__(
        self,
        client: httpx.Client,
        encoder: Encoder,
        rows: list[Row],
        reach: Mapping[str, tuple[float, float]],
    ) -> None:
        self.client = client
        self.encoder = encoder
        self.rows = rows
        self.reach = reach
        self.path = f"/v2/models/{encoder.model}/infer"

    def check(self) -> list[Check]:
        """All of them, one promise each; the last ones ask whether the server is as it was before."""
        checks = [kept("answers ordinary rows", self._ordinary)]
        for case in self._cases():
            words = {
                "answered": f"answers {case.name}",
                "refused": f"refuses {case.name}",
                "either": f"answers or refuses {case.name}",
            }
            checks.append(kept(words[case.expected], partial(self._try, case)))
        checks.append(kept("treats whatever it has not seen alike", self._unseen_are_alike))
        checks.append(kept("answers a row alike in any company", self._company))
        checks.append(kept("answers ordinary rows after all this", self._ordinary))
        return checks

    # The cases

    def _cases(self) -> Iterator[Case]:
        yield from self._strange_categories()
        yield from self._strange_numbers()
        yield from self._wrong_types()
        yield from self._wrong_sizes()

    def _strange_categories(self) -> Iterator[Case]:
        names = self.encoder.categorical
        if not names:
            return
        for text in STRANGE_TEXTS:
            shown = repr(text if len(text) < 40 else f"{text[:3]}... ({len(text):,} characters)")
            yield self._case(f"the category {shown} in every column", [self._row(dict.fromkeys(names, text))])
        yield self._case(
            "an unseen category in one column at a time",
            [self._row({name: "never seen before"}) for name in names],
        )

    def _strange_numbers(self) -> Iterator[Case]:
        names = self.encoder.numeric
        one_at_a_time = self._one_at_a_time

        def far(up: bool) -> Callable[[float, float], float]:
            return lambda low, high: high + BEYOND * (high - low) if up else low - BEYOND * (high - low)

        yield self._case("rows that lack one value each", [self._row({n: None}) for n in self._columns])
        yield self._case("a row that lacks every value", [dict.fromkeys(self._columns)])
        yield self._case("zero in every number", [self._row(dict.fromkeys(names, 0))])
        yield self._case("the smallest number that is not zero", one_at_a_time(lambda low, high: 1e-45))
        yield self._case("whole numbers without a point", one_at_a_time(lambda low, high: round(high)))
        yield self._case("numbers far above their column, one at a time", one_at_a_time(far(up=True)))
        yield self._case("numbers far below their column, one at a time", one_at_a_time(far(up=False)))
        for number in (LARGEST, -LARGEST):
            alone = [self._row({name: number}) for name in names]
            yield self._case(f"{number:g} in one number at a time", alone, "either")
            yield self._case(
                f"{number:g} in every number", [self._row(dict.fromkeys(names, number))], "either"
            )

    def _wrong_types(self) -> Iterator[Case]:
        number = self.encoder.numeric[0]
        no_numbers: dict[str, Any] = {
            "a text": "12",
            "true": True,
            "a list": [1.0],
            "an object": {"value": 1},
        }
        no_texts: dict[str, Any] = {"a number": 5, "false": False, "a list": ["a"]}
        for said, value in no_numbers.items():
            yield self._case(f"{said} where a number is needed", [self._row({number: value})], "refused")
        raw = self._body([self._row({number: 12345.5})]).replace(b"12345.5", b"1e400")
        yield Case("a number beyond all floats", 1, raw, "refused")
        for name in self.encoder.categorical[:1]:
            for said, value in no_texts.items():
                yield self._case(f"{said} where a text is needed", [self._row({name: value})], "refused")

    def _wrong_sizes(self) -> Iterator[Case]:
        yield Case("an empty body", 0, b"", "refused")
        yield self._case("a request of no rows", [], "refused")
        most = MAX_ROWS
        while len(self._body(self.rows[:1] * most)) > MAX_BODY:
            most //= 2
        yield self._case(f"{most:,} rows at once", self.rows[:1] * most)
        yield self._case(f"{MAX_ROWS + 1:,} rows at once", self.rows[:1] * (MAX_ROWS + 1), "refused")
        padded = self._body(self.rows[:1]) + b" " * MAX_BODY
        yield Case(f"a body of {len(padded):,} bytes", 1, padded, "refused")

    # What must become of them

    def _try(self, case: Case) -> None:
        response = self._post(case.body)
        if response.status_code == 200 and case.expected != "refused":
            self._answers(response, case.rows)
            return
        if not 400 <= response.status_code < 500 or case.expected == "answered":
            raise Broken(f"it answers {response.status_code} {response.text[:200]}")
        said = response.json().get("error")
        if not (isinstance(said, str) and said):
            raise Broken(f"it refuses without a sentence: {response.text[:200]}")

    def _answers(self, response: httpx.Response, rows: int) -> NDArray[np.float64]:
        """The predictions in an answer to so many rows; whatever is wrong with them is a broken promise."""
        if response.status_code != 200:
            raise Broken(f"it answers {response.status_code} {response.text[:200]}")
        output, wanted = response.json()["outputs"][0], self.encoder.task.output
        found = np.array(output["data"], np.float64)  # None becomes NaN
        if found.shape != wanted.shape(rows):
            raise Broken(f"it answers {rows} rows with {list(found.shape)} numbers")
        if not np.isfinite(found).all():
            raise Broken(f"{int((~np.isfinite(found)).sum())} of its answers are no numbers")
        low = -np.inf if wanted.low is None else wanted.low
        high = np.inf if wanted.high is None else wanted.high
        if found.size and not low - CLOSE <= found.min() <= found.max() <= high + CLOSE:
            raise Broken(f"its answers lie between {found.min():g} and {found.max():g}")
        return found

    def _ordinary(self) -> None:
        self._answers(self._post(self._body(self.rows)), len(self.rows))

    def _unseen_are_alike(self) -> None:
        """A category that training did not see, whichever, and one that is missing have the same code."""
        names = self.encoder.categorical
        rows = [self._row(dict.fromkeys(names, text)) for text in (*STRANGE_TEXTS, None)]
        self._same(self._answers(self._post(self._body(rows)), len(rows)), "unseen categories")

    def _company(self) -> None:
        company = [self._row({}), dict.fromkeys(self._columns), *self._one_at_a_time(lambda low, high: 1e6)]
        together = self._answers(self._post(self._body(company)), len(company))
        alone = self._answers(self._post(self._body(company[:1])), 1)
        self._same(np.stack([together[0], alone[0]]), "the same row alone and among odd ones")

    def _same(self, answers: NDArray[np.float64], of: str) -> None:
        farthest = float(np.abs(answers - answers[0]).max())
        if farthest > CLOSE * max(1.0, float(np.abs(answers).max())):
            raise Broken(f"its answers to {of} are {farthest:.2g} apart")

    # Making requests

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*self.encoder.numeric, *self.encoder.categorical)

    def _row(self, changed: Row) -> Row:
        return self.rows[0] | changed

    def _one_at_a_time(self, value: Callable[[float, float], float]) -> list[Row]:
        """One row a number, that one changed to what `value` makes of its column's lowest and highest."""
        return [self._row({name: value(*self.reach[name])}) for name in self.encoder.numeric]

    def _case(self, name: str, rows: list[Row], expected: Expected = "answered") -> Case:
        return Case(name, len(rows), self._body(rows), expected)

    def _body(self, rows: list[Row]) -> bytes:
        tensors = []
        for name, datatype, columns in (
            ("numeric", "FP32", self.encoder.numeric),
            ("categorical", "BYTES", self.encoder.categorical),
        ):
            if columns:
                data = [[row[column] for column in columns] for row in rows]
                shape = [len(rows), len(columns)]
                tensors.append({"name": name, "datatype": datatype, "shape": shape, "data": data})
        return orjson.dumps({"inputs": tensors})

    def _post(self, body: bytes) -> httpx.Response:
        return self.client.post(self.path, content=body, headers={"content-type": "application/json"})
