"""The locks of packaging/: whole, hashed, and of no machine in particular."""

import re
import tomllib

import pytest

from tests.support import ROOT

PACKAGING = ROOT / "packaging"
LOCKS = ("requirements.lock", "tools.lock")


def pins(lock: str) -> dict[str, list[str]]:
    """Each pinned distribution with its hashes."""
    entries = re.split(r"\n(?=\S)", (PACKAGING / lock).read_text())
    return {
        entry.partition("==")[0]: re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)
        for entry in entries
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_or_a_hash(lock: str) -> None:
    """A lock holds versions and hashes, nothing else: no index, no option, no URL."""
    for line in (PACKAGING / lock).read_text().splitlines():
        assert re.fullmatch(
            r"[a-z0-9-]+==[0-9a-z.]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line
        ), line


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    """Nothing can be taken that was not looked at when the lock was made."""
    assert all(pins(lock).values())


def test_what_unpd_needs_is_locked() -> None:
    """Every dependency of the project is in the lock, but for the time zones, which are
    the distribution's.
    """
    needed = {
        re.split(r"[<>=]", line)[0]
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert needed - pins("requirements.lock").keys() == {"tzdata"}


def test_unpd_top_is_in_the_packages() -> None:
    """The lock has its library, and none that this one needs for what unpd leaves
    alone.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", line)[0] for line in project["optional-dependencies"]["top"]}
    locked = pins("requirements.lock").keys()
    assert needed <= locked
    assert not locked & {"pygments", "markdown-it-py", "mdurl"}


def test_the_tools_are_locked() -> None:
    """Every tool of tools.in is in its lock."""
    wanted = {
        line.partition("#")[0].strip() for line in (PACKAGING / "tools.in").read_text().splitlines()
    } - {""}
    assert wanted <= pins("tools.lock").keys()
