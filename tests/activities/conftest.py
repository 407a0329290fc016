"""A live world for tests of activities that touch traffic, one a file: no other test meets its settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.activities.live_stack import LiveWorld, live_world


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWorld]:
    """The small model on a real gateway, without a champion in the beginning."""
    with live_world(tmp_path_factory.mktemp("live")) as world:
        yield world
