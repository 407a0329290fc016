"""The bottleneck is what is worth a change first, in words that name the setting to change."""

from __future__ import annotations

import pytest

from sevenfold.training.bottleneck import Used, bottleneck
from sevenfold.training.memory import parts_for

GIB = 2**30
BUSY = {"cores": 0.95, "cores_given": 1.0, "memory": 0.3, "waiting": 0.02}


@pytest.mark.parametrize(
    ("used", "name", "change"),
    [
        ({}, "compute", "raise cpu and processes"),
        ({"memory": 0.9, "waiting": 0.9}, "memory", "chunk_rows"),
        ({"waiting": 0.4}, "data", "until all rows fit"),
        ({"cores": 1.0, "cores_given": 4.0}, "compute", "raise processes"),
        ({"cores": 0.3}, "compute", "what else keeps this node busy"),
        ({"gpu": 20.0}, "compute", "double batch_size"),
        ({"gpu": 95.0}, "compute", "bfloat16"),
        ({"gpu": 95.0, "gpu_memory": 0.9}, "memory", "halve batch_size"),
        ({"gpu": 20.0, "waiting": 0.6}, "data", "faster disk"),
    ],
)
def test_the_bottleneck_is_named_with_what_to_change(used: dict[str, float], name: str, change: str) -> None:
    found = bottleneck(Used(**BUSY | used))
    assert found.name == name
    assert change in found.change


def test_rows_are_dealt_when_they_do_not_fit() -> None:
    assert parts_for(78_000, 26, 5, 3 * GIB) == 1
    assert parts_for(10_000_000, 26, 5, 2 * GIB) == 12
    assert parts_for(10_000_000, 26, 5, 64 * GIB) == 1
    assert parts_for(1_000, 26, 5, 2 * GIB, chunk_rows=300) == 4
    assert parts_for(1_000, 26, 5, 2 * GIB, chunk_rows=5_000) == 1
    assert parts_for(10, 10**6, 5, 1) == 10, "one row at a time is the least"
