"""A virtual environment for each image, made when a test asks for it: each process of pytest has its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from tests.docker.making import held
from tests.docker.venvs import Venv, build

__all__ = ["Of", "venv"]

Of = Callable[..., Venv]


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Of]:
    """venv(image) has what the image has, venv(image, "numpy", ...) lacks these of it."""
    folder = tmp_path_factory.mktemp("venvs")

    @cache
    def of(image: str, *lacks: str) -> Venv:
        return build(folder / "-".join((image, *lacks)), held(image) - {*lacks})

    yield of
    shutil.rmtree(folder)
