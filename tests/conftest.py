"""How tests are spread over processes: a file stays together, and so does all that shares one stack."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups tests so that no expensive fixture is made twice (pytest-xdist, `--dist loadgroup`)."""
    for item in items:
        folder = item.path.parent
        shared = folder if folder.name == "end_to_end" else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))
