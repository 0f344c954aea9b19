"""Fixtures of the packaging tests: the built package, a machine that has it installed,
and the watch over seccomp filters.

A test is skipped only where no system can be booted: without root, or without
namespaces. A program or package that is missing is a failure that names it.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging import seccomp
from tests.packaging.installed import PREVIOUS, Installed, install, package_path
from tests.packaging.machine import Machine, bootable, booted
from tests.packaging.root import assert_tools, debian
from tests.support import ROOT
from unpd import __version__


@pytest.fixture(scope="session")
def package() -> Path:
    """The deb that ``make deb`` built."""
    path = package_path(ROOT / "dist", __version__)
    assert path.exists(), f"{path} is missing: make deb"
    return path


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tree as a deb of an earlier version."""
    directory = tmp_path_factory.mktemp("previous")
    subprocess.run(
        [
            sys.executable,
            "packaging/build.py",
            "deb",
            "--version",
            PREVIOUS,
            "--output",
            str(directory),
        ],
        cwd=ROOT,
        check=True,
    )
    return package_path(directory, PREVIOUS)


@pytest.fixture(scope="session")
def system() -> Path:
    """The root of a plain Debian 12 that can be booted here."""
    if not bootable():
        pytest.skip("needs root and a kernel that makes namespaces")
    assert_tools()
    return debian()


@pytest.fixture(scope="session")
def watch(system: Path) -> Iterator[seccomp.Watch]:
    """What seccomp filters refuse during all of these tests."""
    with seccomp.watching() as watch:
        yield watch


@pytest.fixture(scope="session")
def installed(
    system: Path, watch: seccomp.Watch, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """One machine with the package, for all tests that do not change what is
    installed.
    """
    with booted(system, tmp_path_factory.mktemp("machine") / "console") as machine:
        install(machine, package)
        yield Installed(machine)


@pytest.fixture
def unpd(installed: Installed, watch: seccomp.Watch) -> Iterator[Installed]:
    """The package as after its installation, not started; the test is in the machine's
    network. Whatever it did, no filter refused it a call and there is no trace.
    """
    installed.reset()
    refused = len(watch.refusals("python"))
    with installed.machine.network():
        yield installed
    traces = [line for line in installed.said() if "Traceback" in line]
    assert not traces, f"the daemon failed: {installed.said()}"
    assert not watch.refusals("python")[refused:], "seccomp filters refused these calls"


@pytest.fixture
def fresh(system: Path, watch: seccomp.Watch, tmp_path: Path) -> Iterator[Machine]:
    """A machine of the test's own, without the package; the test is in its network. No
    filter refused a system call to any Python there.
    """
    with booted(system, tmp_path / "console") as machine:
        refused, since = len(watch.refusals("python")), machine.cursor()
        with machine.network():
            yield machine
        traces = [
            entry["MESSAGE"]
            for entry in machine.journal(since)
            if "Traceback" in str(entry["MESSAGE"])
        ]
        assert not traces, f"the daemon failed: {traces}"
        assert not watch.refusals("python")[refused:], "seccomp filters refused these calls"
