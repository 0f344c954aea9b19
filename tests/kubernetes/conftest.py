"""Fixtures of the tests on a cluster: the cluster, and the manifests applied to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import OVERLAY, Cluster, running
from tests.support import ROOT
from tests.support.manifests import rendered
from unpd import __version__


@pytest.fixture(autouse=True)
def no_process_left() -> None:
    """Look for none: the cluster lives on between tests, and all processes end with
    their namespace.
    """


@pytest.fixture(scope="session")
def bare() -> Iterator[Cluster]:
    """A cluster, to which no manifest is applied."""
    assert "UNPD_CLUSTER" in os.environ, "the cluster needs namespaces: make test-kubernetes"
    image = ROOT / f"dist/unpd-{__version__}-amd64.docker.tar"
    assert image.exists(), f"{image} is missing: make image"
    programs, directory = (Path(os.environ[f"UNPD_{name}"]) for name in ("KUBERNETES", "CLUSTER"))
    with running(programs, directory, image) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(bare: Cluster) -> Iterator[Cluster]:
    """The cluster with the manifests applied."""
    bare.apply(rendered(OVERLAY))
    yield bare
    bare.remove()
