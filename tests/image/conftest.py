"""Fixtures of the tests of the container image. They need root, and what
``packaging/install check-image`` installs.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.archive import Image, built, read_docker, read_oci
from tests.image.podman import TOOLS, Container, Podman, loaded
from tests.support import faults

Run = Callable[..., Container]


@pytest.fixture(scope="session")
def docker() -> Image:
    """The content of the archive for docker and podman."""
    return read_docker(built("docker"))


@pytest.fixture(scope="session")
def oci() -> Image:
    """The content of the archive of the OCI."""
    return read_oci(built("oci"))


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A podman that has the image."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    missing = [tool for tool in TOOLS if faults.find_tool(tool) is None]
    assert not missing, f"the tests of the image need {missing}: packaging/install check-image"
    directory = Path(tempfile.mkdtemp(prefix="unpd-podman-"))
    try:
        with loaded(directory, built("docker")) as podman:
            yield podman
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def run(podman: Podman, no_process_left: None) -> Iterator[Run]:
    """Start containers with ``run(OPTION...)``. They end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(podman.container(*options))
