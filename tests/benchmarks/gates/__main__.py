"""Prints what our canary rule and others decide on simulated traffic, whether the bounds hold, and timings.

`python -m tests.benchmarks.gates [--runs 2000]` from the root with include/ on PYTHONPATH takes minutes.
Exits 1 if a bound does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.benchmarks.gates import timing
from tests.benchmarks.gates.simulation import FACTORS, WORLDS, Row, World, at_every_frequency, simulate


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything; 0 if all bounds hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gates", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulated canaries of each kind")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    bounds: list[tuple[str, float, str, bool]] = []
    for world in WORLDS:
        rows = list(simulate(world, given.runs))
        print(table(world, rows), flush=True)
        bounds += held(world, rows)
    often = list(at_every_frequency(given.runs))
    print(frequencies(often), flush=True)
    for world in dict.fromkeys(row.world for row in often):
        bounds += held(world, [row for row in often if row.world == world])
    for name, seconds, memory in timing.judged_lines():
        print(f"{name}: {seconds:.2f} s, {memory:.1f} MiB at the peak", flush=True)
    bounds += timing.bounds()
    print("\nbound | measured | limit | holds\n---|---|---|---")
    for name, measured, limit, holds in bounds:
        print(f"{name} | {measured:.4g} | {limit} | {'yes' if holds else 'NO'}")
    print(f"\n{time.monotonic() - started:.0f} s")
    return 0 if all(holds for *_, holds in bounds) else 1


def table(world: World, rows: Sequence[Row]) -> str:
    """Markdown: one line a rule, one column a kind of challenger."""
    heads = [f"{'equal' if factor == 1 else f'{factor:g}x worse'}: P / R / H % (poll)" for factor in FACTORS]
    lines = [f"\n### {world.name}", " | ".join(["rule", *heads]), "|".join(["---"] * (len(heads) + 1))]
    for name in dict.fromkeys(row.rule for row in rows):
        lines.append(" | ".join([name, *(_cell(row) for row in rows if row.rule == name)]))
    return "\n".join(lines)


def frequencies(rows: Sequence[Row]) -> str:
    """Markdown: our rule on the same 10k requests against 90k, one line a polling frequency."""
    lines = [
        "\n### Ours at every polling frequency, 10k against 90k",
        "polls | equal: P / R / H % (poll) | 1.5x worse: P / R / H % (poll) | 2x worse: P / R / H % (poll)",
        "---|---|---|---",
    ]
    for world in dict.fromkeys(row.world for row in rows):
        lines.append(" | ".join([world.name, *(_cell(row) for row in rows if row.world == world)]))
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return f"{100 * row.promoted:.1f} / {100 * row.rolled_back:.1f} / {100 * row.held:.1f} ({row.poll:.0f})"


def held(world: World, rows: Sequence[Row]) -> list[tuple[str, float, str, bool]]:
    """Our rule's stated bounds in a world: with an A/A run before where arms have bursts of their own."""
    rule = "ours, phi of an A/A run" if world.burst else "ours"
    found = {row.factor: row for row in rows if row.rule == rule}
    said = f"{rule}, {world.name}"
    bounds = [
        (f"{said}: false roll-back of an equal one", found[1.0].rolled_back, "<= 0.05"),
        (f"{said}: false promotion at 1.5x", found[1.5].promoted, "<= 0.05"),
        (f"{said}: false promotion at 2x", found[2.0].promoted, "<= 0.05"),
    ]
    checked = [(name, value, limit, value <= 0.05) for name, value, limit in bounds]
    if not world.burst and world.champion > world.challenger:
        caught = found[2.0].rolled_back
        checked.append((f"{said}: roll-back at 2x", caught, ">= 0.95", caught >= 0.95))
    return checked


if __name__ == "__main__":
    sys.exit(main())
