"""Fixtures and rules for every test: daemons that are examined after their end, no
process left behind, skips that count as failures where they must not be.
"""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import procs
from tests.support.launch import Launch
from tests.support.manager import Manager, manager

NO_SKIP = "UNPD_TEST_NO_SKIP"
SEED = "UNPD_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """Orphans of daemons come to us, so that none escapes; what is started is
    interrupted by SIGINT, even if this run is a shell's background job.
    """
    procs.become_subreaper()
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler)
    if os.environ.get(NO_SKIP, "0") != "0":
        config.pluginmanager.register(SkipsForbidden())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three test processes on two cores: the tests wait for almost half of their
    time.
    """
    return len(os.sched_getaffinity(0)) * 3 // 2


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A test leaves no process behind: not a child, nor an orphan of one, which would
    have become our child.
    """
    before = procs.child_pids(os.getpid())
    yield
    left = [child for pid in procs.child_pids(os.getpid()) - before if (child := procs.stat(pid))]
    procs.sweep(left)
    assert not left, f"processes left behind: {left}"


@pytest.fixture
def launch(no_process_left: None, tmp_path: Path) -> Iterator[Launch]:
    """Real daemons, each started by ``launch(CONFIG)``. After the test each is stopped
    and examined; what it did wrong fails the test.
    """
    launcher = Launch(tmp_path)
    yield launcher
    problems = launcher.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Manager]:
    """A service manager: what systemd is to its unit."""
    with manager(tmp_path) as found:
        yield found


@pytest.fixture
def rng() -> random.Random:
    """Random numbers of a printed seed; UNPD_TEST_SEED repeats a run."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))
    print(f"{SEED}={seed}")
    return random.Random(seed)


class SkipsForbidden:
    """Where every tool is installed a skipped test is a hole: the run fails and names
    it.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test. An expected failure is no skip."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped module."""
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run that would have passed fails."""
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which."""
        if self.skipped:
            terminalreporter.section(
                f"{NO_SKIP} is set, and {len(self.skipped)} skipped: this fails the run", red=True
            )
            for line in self.skipped:
                terminalreporter.line(line)


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
