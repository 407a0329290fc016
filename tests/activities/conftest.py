"""One live world for all tests of activities that touch traffic: starting it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.activities.live_stack import LiveWorld, live_world


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWorld]:
    """The small model on a real gateway, for the whole session."""
    with live_world(tmp_path_factory.mktemp("live")) as world:
        yield world
