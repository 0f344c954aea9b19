"""Fixtures: a machine to check configurations against, two ways to load a text on it,
and a configuration of several files.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.etc import Etc
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
