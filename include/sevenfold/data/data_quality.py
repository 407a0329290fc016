"""Runs a model's expectations with Great Expectations; keeps what became of each, and which rows fail.

Great Expectations' own pages load styles, scripts and fonts from the network, so its result is kept as JSON,
and the page that people look at is made of `Findings`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sevenfold.light_imports import without_iris

without_iris()  # before Great Expectations comes, here or with a model's expectations

SAMPLED = 20
"""Failing rows that are named for each expectation."""

KINDS = ("schema", "completeness", "uniqueness", "range", "referential integrity", "volume", "freshness")
"""What expectations are about. Most types say it themselves; the others do in `meta={"kind": ...}`."""

_KIND_OF_TYPE = {
    "expect_column_to_exist": "schema",
    "expect_table_columns_to_match_set": "schema",
    "expect_table_columns_to_match_ordered_list": "schema",
    "expect_table_column_count_to_equal": "schema",
    "expect_column_values_to_be_of_type": "schema",
    "expect_column_values_to_be_in_type_list": "schema",
    "expect_column_values_to_not_be_null": "completeness",
    "expect_column_values_to_be_unique": "uniqueness",
    "expect_compound_columns_to_be_unique": "uniqueness",
    "expect_select_column_values_to_be_unique_within_record": "uniqueness",
    "expect_table_row_count_to_be_between": "volume",
    "expect_table_row_count_to_equal": "volume",
    "expect_column_unique_value_count_to_be_between": "volume",
}
_WITH_EVERY_ROW = (
    "unexpected_list",
    "unexpected_index_list",
    "unexpected_index_query",
    "partial_unexpected_counts",
)
"""Parts of a result that grow with the rows."""


@dataclass(frozen=True)
class Finding:
    """What became of one expectation."""

    expectation: str
    column: str
    kind: str
    severity: str
    met: bool
    detail: str
    rows: int | None
    """How many rows fail; None where the expectation is about the table as a whole."""
    ids: tuple[str, ...]
    """Some of them."""


@dataclass(frozen=True)
class Findings:
    """What became of all expectations, and Great Expectations' own result as JSON."""

    all: tuple[Finding, ...]
    json: str

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Those that the rows do not meet."""
        return tuple(finding for finding in self.all if not finding.met)

    @property
    def critical(self) -> tuple[Finding, ...]:
        """Failures of more than a warning."""
        return tuple(failure for failure in self.failures if failure.severity == "critical")

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Those that are about one kind of thing."""
        return tuple(finding for finding in self.all if finding.kind == kind)


def validate(name: str, frame: Any, expectations: Sequence[Any]) -> Findings:
    """Checks a pandas frame with a column `id`; an expectation that cannot be computed has failed."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
    result = batch.validate(
        suite,
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["id"],
            "partial_unexpected_count": SAMPLED,
        },
    )
    return Findings(tuple(_finding(single) for single in result.results), _json(result))


def _finding(single: Any) -> Finding:
    config, found = single.expectation_config, single.result or {}
    settings = {k: v for k, v in config.kwargs.items() if k not in ("batch_id", "column", "column_list")}
    column = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", ()))
    ids = [str(index["id"]) for index in found.get("unexpected_index_list") or [] if "id" in index]
    said = f"{config.type.removeprefix('expect_').replace('_', ' ')} {settings or ''}".strip()
    return Finding(
        expectation=said if len(said) <= 200 else f"{said[:200]}...",
        column=column or "the table",
        kind=(config.meta or {}).get("kind") or _KIND_OF_TYPE.get(config.type, "range"),
        severity=str(getattr(config.severity, "value", config.severity)),
        met=bool(single.success),
        detail=_detail(found, _exception(single.exception_info or {}))[:300],
        rows=found.get("unexpected_count"),
        ids=tuple(ids[:SAMPLED]),
    )


def _detail(found: dict[str, Any], raised: str) -> str:
    """What was seen, in words: the exception, values that should not be there, or the observed value."""
    if raised:
        return raised
    if values := found.get("partial_unexpected_list"):
        return f"found {values[:5]} in {found.get('unexpected_percent', 0):.2g} % of the rows"
    if "observed_value" in found:
        observed = found["observed_value"]
        return f"observed {observed:.4g}" if isinstance(observed, float) else f"observed {observed}"
    return "in every row" if found.get("unexpected_count") == 0 else "observed nothing"


def _exception(said: dict[str, Any]) -> str:
    """The message of the exception that kept an expectation from being computed, if one did."""
    for entry in [said, *(value for value in said.values() if isinstance(value, dict))]:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return ""


def _json(result: Any) -> str:
    """The whole result without what grows with the rows."""
    said = result.to_json_dict()
    for single in said["results"]:
        for part in _WITH_EVERY_ROW:
            (single.get("result") or {}).pop(part, None)
    return json.dumps(said, indent=1)
