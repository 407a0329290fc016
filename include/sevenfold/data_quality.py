"""Runs a model's expectations with Great Expectations; keeps what a person needs: which rows, and a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAMPLED = 20
"""Failing rows that are named for each expectation."""

_FROM_THE_NETWORK = re.compile(
    r"""<link[^>]*>"""
    r"""|<script[^>]+src=["']https?://[^>]*>\s*</script>"""
    r"""|<img[^>]+src=["']https?://[^>]*>""",
    re.IGNORECASE,
)
_STYLE = """<style>
body{font:15px/1.5 system-ui,sans-serif;margin:1rem 2rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}.list-group{list-style:none;padding-left:0}nav{display:none}
</style></head>"""


@dataclass(frozen=True)
class Failure:
    """One expectation that the rows do not meet."""

    expectation: str
    column: str
    severity: str
    detail: str
    rows: int | None
    """How many rows fail; None where the expectation is about the table as a whole."""
    ids: tuple[str, ...]
    """Some of them."""


@dataclass(frozen=True)
class Findings:
    """What became of all expectations: how many there are, which failed, and data docs as one HTML page."""

    expectations: int
    failures: tuple[Failure, ...]
    html: str

    @property
    def critical(self) -> tuple[Failure, ...]:
        """Failures of more than a warning."""
        return tuple(failure for failure in self.failures if failure.severity == "critical")


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
    failures = tuple(_failure(single) for single in result.results if not single.success)
    return Findings(len(result.results), failures, _docs(result))


def _failure(single: Any) -> Failure:
    config, found = single.expectation_config, single.result or {}
    settings = {k: v for k, v in config.kwargs.items() if k not in ("batch_id", "column", "column_list")}
    column = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", ()))
    raised = _exception(single.exception_info or {})
    values = found.get("partial_unexpected_list") or []
    detail = raised or (
        f"found {values[:5]}" if values else f"observed {found.get('observed_value', 'nothing')}"
    )
    ids = [str(index["id"]) for index in found.get("unexpected_index_list") or [] if "id" in index]
    return Failure(
        expectation=f"{config.type.removeprefix('expect_').replace('_', ' ')} {settings or ''}".strip(),
        column=column or "the table",
        severity=str(getattr(config.severity, "value", config.severity)),
        detail=detail[:300],
        rows=found.get("unexpected_count"),
        ids=tuple(ids[:SAMPLED]),
    )


def _exception(said: dict[str, Any]) -> str:
    """The message of the exception that kept an expectation from being computed, if one did."""
    for entry in [said, *(value for value in said.values() if isinstance(value, dict))]:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return ""


def _docs(result: Any) -> str:
    """Great Expectations' own page, without what it would fetch from the network: it is read offline."""
    from great_expectations.render.renderer import (  # type: ignore[attr-defined]
        ValidationResultsPageRenderer,
    )
    from great_expectations.render.view import DefaultJinjaPageView  # type: ignore[attr-defined]

    for single in result.results:
        observed: Any = single.result.get("observed_value") if single.result else None
        if hasattr(observed, "item"):  # the renderer cannot read NumPy's numbers
            single.result["observed_value"] = observed.item()
    view: Any = DefaultJinjaPageView()
    content = view.render(ValidationResultsPageRenderer().render(result))
    return _FROM_THE_NETWORK.sub("", str(content)).replace("</head>", _STYLE, 1)
