"""Numbers, names and times as a person reads them."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta

from sevenfold.gates.measurement import Measurement

ACRONYMS = {"auc", "psi", "onnx", "cpu", "sbom"}
SILENT_UNITS = {"", "1", "nats", "ratio", "probability", "rank", "association"}
SHORT_UNITS = {"ms", "s", "MiB"}
"""No words of a name: 'failed tests' is one, 'p99 ms' is none."""


def number(value: float) -> str:
    """Three significant digits and no needless ones: 0.517, 1.41, 12.3, 1,234, 2e-07."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000 or (size >= 1 and value == int(value)):
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.2f}" if size < 10 else f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.001 else f"{value:.2g}"


def amount(value: float, unit: str) -> str:
    """A value with its unit; shares as per cent."""
    if unit == "share":
        return f"{100 * value:.3g} %"
    return number(value) if unit in SILENT_UNITS else f"{number(value)} {unit}"


def interval(low: float, high: float, unit: str, alpha: float) -> str:
    """'95 % interval 0.50 to 0.53'; `alpha` is what lies outside on each side."""
    return f"{100 * (1 - 2 * alpha):.3g} % interval {amount(low, unit)} to {amount(high, unit)}"


def name(metric: str, unit: str = "") -> str:
    """A metric's name in words, without the unit that follows anyway: p99_ms in ms is 'p99'."""
    spoken = (metric.removesuffix(f"_{unit}") if unit in SHORT_UNITS else metric).split("_")
    return " ".join(word.upper() if word in ACRONYMS else word for word in spoken)


def subject(reading: Measurement) -> str:
    """What was measured: 'log loss of JFK on April 2013'."""
    of = f" of {reading.slice}" if reading.slice else ""
    on = ""
    if reading.window_start and reading.window_end:
        on = f" on {window(reading.window_start, reading.window_end)}"
    return f"{name(reading.metric, reading.unit)}{of}{on}"


def window(start: datetime, end: datetime) -> str:
    """A whole month by its name, else the first and last day; an end at midnight is not part of it."""
    last = end - timedelta(microseconds=1) if end > start else end
    if (start.year, start.month) == (last.year, last.month):
        if start.day == 1 and last.day == monthrange(last.year, last.month)[1]:
            return f"{start:%B %Y}"
        if start.day == last.day:
            return f"{start.day} {start:%B %Y}"
        return f"{start.day} to {last.day} {last:%B %Y}"
    return f"{start.day} {start:%B %Y} to {last.day} {last:%B %Y}"


def duration(span: timedelta) -> str:
    """'90 s', '20 min', '36 h', '7 days', '36 h 2 s'."""
    seconds = int(span.total_seconds())
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            whole = seconds // size
            return "1 day" if (whole, unit) == (1, "days") else f"{whole} {unit}"
    if seconds > 3600:
        return f"{seconds // 3600} h {duration(timedelta(seconds=seconds % 3600))}"
    return f"{seconds} s"
