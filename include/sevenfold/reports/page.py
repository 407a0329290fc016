"""Reports that people read: one self-contained HTML file of text, tables and plots."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:0 0 1.5rem}
td,th{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd;vertical-align:top}
td:first-child,th:first-child,.words{text-align:left}
img{max-width:100%}code{font-size:.9em;overflow-wrap:anywhere}
"""


def page(title: str, *parts: str) -> str:
    """A page of parts, each made by one of the functions below."""
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>"
    )


def heading(text: str) -> str:
    """A heading within the page."""
    return f"<h2>{html.escape(text)}</h2>"


def text(*sentences: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(' '.join(sentences))}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers with a fraction are shown with four digits after the point, None as a dash.

    Columns of words are read from the left, all others end under each other.
    """
    sides = [any(_is_words(row[place]) for row in rows) for place in range(len(columns))]
    head = "".join(_tag("th", html.escape(name), side) for name, side in zip(columns, sides, strict=True))
    body = "".join(
        "<tr>"
        + "".join(_tag("td", _cell(cell), side) for cell, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def image(path: Path, alternative: str) -> str:
    """A PNG file, its bytes inside the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{html.escape(alternative)}' src='data:image/png;base64,{content}'>"


def _tag(name: str, content: str, words: bool) -> str:
    return f"<{name}{' class=words' if words else ''}>{content}</{name}>"


def _is_words(value: object) -> bool:
    """Whether most of a text is letters; a number with its unit is none."""
    return isinstance(value, str) and sum(map(str.isalpha, value)) > len(value) / 2


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else html.escape(str(value))
