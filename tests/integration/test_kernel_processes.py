"""Processes: exit reports, signals through pidfds, the descriptors of a child.

Each fork happens in a program of its own.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import pytest

from tests.support import ROOT, faults
from tests.support.refused_calls import requires_filters
from unpd.kernel.processes import (
    ExitReport,
    alive_after,
    decode_wait_status,
    send_signal,
    signal_name,
)


def python(
    script: str,
    *,
    preset: str = "",
    close: str = "",
    stdin: int | None = None,
    prefix: Sequence[str] = (),
) -> str:
    """Run a script in an interpreter of its own; return what it prints. ``close``:
    redirections that close descriptors before it starts. ``prefix`` runs the command.
    """
    command = [
        *prefix,
        "/bin/sh",
        "-c",
        f'exec {close} "$0" -c "$1"',
        sys.executable,
        f"import os\n{preset}\n{script}",
    ]
    return (
        subprocess.run(
            command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, check=True, timeout=60
        )
        .stdout.decode()
        .strip()
    )


@pytest.mark.parametrize(
    ("status", "report", "text"),
    [
        (0x0000, ExitReport(0, None, core=False), "exit code 0"),
        (0x0100, ExitReport(1, None, core=False), "exit code 1"),
        (0x4E00, ExitReport(78, None, core=False), "exit code 78"),
        (0xFF00, ExitReport(255, None, core=False), "exit code 255"),
        (9, ExitReport(None, 9, core=False), "killed by SIGKILL"),
        (15, ExitReport(None, 15, core=False), "killed by SIGTERM"),
        (6 | 0x80, ExitReport(None, 6, core=True), "killed by SIGABRT (core dumped)"),
        (11, ExitReport(None, 11, core=False), "killed by SIGSEGV"),
        (40, ExitReport(None, 40, core=False), "killed by signal 40"),
    ],
)
def test_a_wait_status_is_decoded(status: int, report: ExitReport, text: str) -> None:
    """A wait status gives an exit code or a signal, and whether a core was dumped
    (wait(2)).
    """
    assert decode_wait_status(status) == report
    assert str(report) == text


def test_every_status_has_a_text() -> None:
    """A wait status of an ended process has either a code or a signal, and a text."""
    for status in range(0x10000):
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            report = decode_wait_status(status)
            assert (report.code is None) != (report.signum is None)
            assert str(report)


@pytest.mark.parametrize(
    ("signum", "name"),
    [(signal.SIGTERM, "SIGTERM"), (17, "SIGCHLD"), (33, "signal 33"), (200, "signal 200")],
)
def test_signals_have_names(signum: int, name: str) -> None:
    """A signal without a name is shown by its number."""
    assert signal_name(signum) == name


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps until the block ends."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_is_signalled_through_its_descriptor() -> None:
    """A signal through a pidfd reaches its process; for a process that has ended,
    reaped or not, it does nothing.
    """
    with sleeper() as process:
        pidfd = os.pidfd_open(process.pid)
        send_signal(pidfd, signal.SIGTERM)
        assert alive_after([pidfd], 60.0) == set()
        send_signal(pidfd, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)


def test_processes_that_outlive_the_timeout_are_returned() -> None:
    """alive_after() returns exactly the processes that still live at the timeout."""
    with sleeper() as stays, sleeper() as goes:
        stays_fd, goes_fd = os.pidfd_open(stays.pid), os.pidfd_open(goes.pid)
        send_signal(goes_fd, signal.SIGKILL)
        assert alive_after([goes_fd], 60.0) == set()
        assert alive_after([stays_fd, goes_fd], 0.05) == {stays_fd}
        os.close(stays_fd)
        os.close(goes_fd)


OPEN = "for fd in (5, 9, 10, 4000): os.dup2(1, fd)"
LIST = """
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print(*filter(is_open, range(5000)))
"""
WITHOUT_CLOSE_RANGE = "from tests.support.refused_calls import refuse; refuse('close_range', 1)"
WITHOUT_PROC = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs none /proc && exec "$@"',
    "sh",
)


@pytest.mark.parametrize(
    ("refusal", "prefix"),
    [
        pytest.param("", (), id="close_range"),
        pytest.param(WITHOUT_CLOSE_RANGE, (), id="proc", marks=requires_filters),
        pytest.param(
            WITHOUT_CLOSE_RANGE,
            WITHOUT_PROC,
            id="one-by-one",
            marks=[requires_filters, faults.requires_root],
        ),
    ],
)
@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ("(0, 1, 2)", "0 1 2"),
        ("(2, 1, 0, 9, 9)", "0 1 2 9"),
        ("(1, 4000)", "1 4000"),
        ("(0, 1, 2, 5, 9, 10, 4000)", "0 1 2 5 9 10 4000"),
        ("(-1, 1, 77)", "1"),
    ],
)
def test_only_listed_descriptors_stay_open(
    kept: str, left: str, refusal: str, prefix: Sequence[str]
) -> None:
    """Exactly the listed descriptors stay open, whatever their numbers and whether or
    not 0 is listed; and so without close_range(2), and without /proc too.
    """
    script = f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 5000) if hard != -1 else 5000, hard))
{OPEN}
pid = os.fork()
if pid == 0:
    close_all_but({kept})
{indent(LIST, "    ")}
    os._exit(0 if not __import__('sys').stdout.flush() else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    preset = f"from unpd.kernel.processes import close_all_but\n{refusal}"
    assert python(script, preset=preset, prefix=prefix) == left


@pytest.mark.parametrize(
    ("close", "replaced"), [("<&-", [0]), ("2>&-", [2]), ("<&- 2>&-", [0, 2]), ("", [])]
)
def test_no_socket_becomes_a_standard_descriptor(close: str, replaced: list[int]) -> None:
    """A closed standard descriptor becomes /dev/null, which programs inherit; an open
    one stays.
    """
    script = """
occupy()
null = [fd for fd in (0, 1, 2) if os.path.samestat(os.fstat(fd), os.stat(os.devnull))]
print(null, [os.get_inheritable(fd) for fd in (0, 1, 2)])
"""
    with Path("/proc/self/status").open("rb") as some_file:
        output = python(
            script,
            preset="from unpd.kernel.standard_descriptors import occupy",
            close=close,
            stdin=some_file.fileno(),
        )
    assert output == f"{replaced} [True, True, True]"


def test_the_descriptor_limit_is_raised_to_the_hard_limit() -> None:
    """The soft limit becomes the hard limit, which is returned."""
    script = (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); print(raise_descriptor_limit(),"
        " *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert (
        python(
            script,
            preset="import resource\nfrom unpd.kernel.processes import raise_descriptor_limit",
        )
        == "300 300 300"
    )


def test_a_child_dies_with_its_parent() -> None:
    """The kernel kills the child with SIGKILL when its parent dies; a child whose
    parent died before gets False.
    """
    script = """
become_subreaper()
reader, writer = os.pipe()
if (middle := os.fork()) == 0:
    parent = os.getpid()
    if os.fork() == 0:
        assert not die_with_parent(parent + 1)
        assert die_with_parent(parent)
        os.write(writer, b'%d' % os.getpid())
        signal.pause()
    signal.pause()
os.close(writer)
orphan = int(os.read(reader, 20))
os.kill(middle, signal.SIGKILL)
os.waitpid(middle, 0)
print(os.waitpid(orphan, 0)[1] == signal.SIGKILL)
"""
    assert (
        python(
            script,
            preset=(
                "import signal\nfrom tests.support.procs import become_subreaper\nfrom"
                " unpd.kernel.processes import die_with_parent"
            ),
        )
        == "True"
    )
