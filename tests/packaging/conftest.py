"""Fixtures of the packaging tests: the built package, a machine with the package, and
the watch over seccomp filters.

Tests that boot a system run on each of :data:`tests.packaging.root.SUITES`. With
``--dist loadscope`` each system has a process of its own, so that both run side by
side.

A test may skip only where no system can boot: without root, or without namespaces. If a
program or a package is missing, a test fails and names it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.packaging import seccomp
from tests.packaging.installed import PREVIOUS, Installed, install, package_path
from tests.packaging.machine import Machine, bootable, booted
from tests.packaging.root import SUITES, Suite, assert_tools, debian
from tests.support import ROOT
from unpd import __version__


class BySystem(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no annotations
    """Gives all tests of a system, or of a module that needs none, to one process."""

    def _split_scope(self, nodeid: str) -> str:
        system = re.search(rf"\[.*\b({'|'.join(suite.name for suite in SUITES)})\b", nodeid)
        return system[1] if system else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySystem | None:
    """Group the tests for ``--dist loadscope``."""
    return BySystem(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def package() -> Path:
    """The deb that ``make deb`` built."""
    path = package_path(ROOT / "dist", __version__)
    assert path.exists(), f"{path} is missing: make deb"
    return path


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deb of the same tree that bears an earlier version."""
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


@pytest.fixture(scope="session", params=SUITES, ids=[suite.name for suite in SUITES])
def suite(request: pytest.FixtureRequest) -> Suite:
    """The version of Debian."""
    found: Suite = request.param
    return found


@pytest.fixture(scope="session")
def can_boot() -> None:
    """Skip the test where no system can boot."""
    if not bootable():
        pytest.skip("needs root and a kernel that makes namespaces")
    assert_tools()


@pytest.fixture(scope="session")
def system(can_boot: None, suite: Suite) -> Path:
    """The root directory of a plain Debian that can boot here."""
    return debian(suite)


@pytest.fixture(scope="session")
def watch(suite: Suite, can_boot: None) -> Iterator[seccomp.Watch]:
    """Collects the system calls that seccomp filters refuse during these tests."""
    with seccomp.watching(suite.python) as watch:
        yield watch


@pytest.fixture(scope="session")
def installed(
    system: Path, watch: seccomp.Watch, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """One machine with the package, shared by all tests that do not change which
    packages are installed.
    """
    with booted(system, tmp_path_factory.mktemp("machine") / "console") as machine:
        install(machine, package)
        yield Installed(machine)


@pytest.fixture
def unpd(installed: Installed, watch: seccomp.Watch) -> Iterator[Installed]:
    """The package as after its installation, not started. The test runs in the
    machine's network. Afterwards no filter may have refused a system call, and the
    journal may hold no trace.
    """
    installed.reset()
    refused = len(watch.refusals())
    with installed.machine.network():
        yield installed
    traces = [line for line in installed.messages() if "Traceback" in line]
    assert not traces, f"the daemon failed: {installed.messages()}"
    assert not watch.refusals()[refused:], "seccomp filters refused these calls"


@pytest.fixture
def fresh(system: Path, watch: seccomp.Watch, tmp_path: Path) -> Iterator[Machine]:
    """A machine of the test's own, without the package. The test runs in its network.
    Afterwards no filter may have refused a system call of a Python there.
    """
    with booted(system, tmp_path / "console") as machine:
        refused, since = len(watch.refusals()), machine.cursor()
        with machine.network():
            yield machine
        traces = [
            entry["MESSAGE"]
            for entry in machine.journal(since)
            if "Traceback" in str(entry["MESSAGE"])
        ]
        assert not traces, f"the daemon failed: {traces}"
        assert not watch.refusals()[refused:], "seccomp filters refused these calls"
