"""Fixtures: a machine to check configurations against, two ways to load a text on it,
a configuration of several files, and an ordinary user.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.etc import ORDINARY_UID, Etc
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.errors import ConfigError
from unpd.kernel.privileges import Identity


@pytest.fixture
def host() -> Host:
    """A machine with four CPUs on which root runs unpd, and reads files as root."""
    return Host(
        uid=0,
        user="root",
        runtime_dir="/run/unpd",
        somaxconn=4096,
        cpus=4,
        children=Identity("root", 0, "root", 0),
    )


@pytest.fixture
def accept(host: Host) -> Callable[[str], Loaded]:
    """Load a valid text."""
    return lambda text: loads(text, host)


@pytest.fixture
def refuse(host: Host) -> Callable[[str], list[str]]:
    """Load an invalid text; return the lines of the error."""

    def lines(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loads(text, host)
        return str(caught.value).split("\n")

    return lines


@pytest.fixture
def etc(tmp_path: Path, host: Host) -> Etc:
    """A configuration of several files."""
    return Etc(tmp_path, host)


@pytest.fixture
def no_root() -> Iterator[None]:
    """Run the test as an ordinary user, because root may read every file."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(ORDINARY_UID)
    yield
    os.seteuid(uid)
