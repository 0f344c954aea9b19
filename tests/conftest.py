"""Owns the fixtures and the rules for every test. Each daemon is examined after its
end, no test leaves a process behind, and skips can be forbidden.

pytest loads this file. It uses :mod:`tests.support`.
"""

import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import procs
from tests.support.commands import RunUnpd
from tests.support.fake_systemd import FakeSystemd, fake_systemd
from tests.support.fork_server import ForkServer
from tests.support.launch import Launch

NO_SKIP = "UNPD_TEST_NO_SKIP"
SEED = "UNPD_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """Adopt orphans of daemons, so that none escapes. Restore SIGINT, SIGQUIT and
    SIGHUP where a shell's background job starts with them ignored.
    """
    procs.become_subreaper()
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler)
    if os.environ.get(NO_SKIP, "0") != "0":
        config.pluginmanager.register(SkipsForbidden())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run three test processes on two cores, because the tests wait for almost half of
    their time.
    """
    return len(os.sched_getaffinity(0)) * 3 // 2


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Start daemons and commands faster."""
    with contextlib.closing(ForkServer()) as server:
        yield server


@pytest.fixture(scope="session")
def run_unpd(fork_server: ForkServer) -> RunUnpd:
    """Run commands of unpd to their end."""
    return RunUnpd(fork_server)


@pytest.fixture(autouse=True)
def no_process_left(fork_server: ForkServer) -> Iterator[None]:
    """Fail a test that leaves a process behind: a child, or an orphan that this process
    adopted.
    """
    before = procs.child_pids(os.getpid())
    yield
    new = procs.child_pids(os.getpid()) - before - {fork_server.pid}
    left = [child for pid in new if (child := procs.stat(pid))]
    procs.kill_and_reap(left)
    assert not left, f"processes left behind: {left}"


@pytest.fixture
def launch(no_process_left: None, fork_server: ForkServer, tmp_path: Path) -> Iterator[Launch]:
    """Start real daemons with ``launch(CONFIG)``. After the test each one is stopped
    and examined, and each finding fails the test.
    """
    launcher = Launch(tmp_path, fork_server)
    yield launcher
    problems = launcher.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture
def public() -> Iterator[Path]:
    """Provide a directory that every user can reach, as /run is; pytest's own are
    closed to other users.
    """
    path = Path(tempfile.mkdtemp(prefix="unpd-public-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    """Provide a fake service manager for one unit."""
    with fake_systemd(tmp_path) as found:
        yield found


@pytest.fixture
def rng() -> random.Random:
    """Return random numbers with a printed seed. UNPD_TEST_SEED repeats a run."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))
    print(f"{SEED}={seed}")
    return random.Random(seed)


class SkipsForbidden:
    """Fails a run that skipped a test, and names the test. Where every tool is
    installed, a skipped test is a gap.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test. An expected failure proves no more than a skip."""
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped module."""
        if report.skipped:
            self.skipped.append(f"{report.nodeid}: {reason(report)}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that would have passed."""
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List the skipped tests."""
        if self.skipped:
            terminalreporter.section(
                f"{NO_SKIP} is set, and {len(self.skipped)} skipped: this fails the run", red=True
            )
            for line in self.skipped:
                terminalreporter.line(line)


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the reason why a test was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
