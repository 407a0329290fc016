"""One cluster and one place on it for all tests of this folder; docs/cluster.md, 'Try it on your cluster'.

    KUBECONFIG=... python -m pytest -m kubernetes tests/kubernetes -s

The pods run the images that include/kubernetes/images names; SEVENFOLD_TEST_REGISTRY and SEVENFOLD_TEST_TAG
name others (`<registry>/<image>:<tag>`), SEVENFOLD_TEST_PULL_POLICY (IfNotPresent) when they are pulled,
SEVENFOLD_TEST_STORAGE_CLASS whose volumes the pods share (the default class; `none`: folders of a node).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes.airflow import Airflow
from tests.kubernetes.cluster import Cluster, found
from tests.kubernetes.place import Images, Place

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands in this folder needs a cluster, and has minutes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    yield from found()


@pytest.fixture(scope="session")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(cluster, Images.given(), tmp_path_factory.mktemp("secrets"))
    made.prepare()
    return made


@pytest.fixture(scope="session")
def airflow(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    running = Airflow(place, tmp_path_factory.mktemp("airflow"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
