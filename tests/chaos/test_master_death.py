"""The master dies in several ways. No process outlives it, and nothing blocks the next
start.
"""

import os
import time
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support import clients, faults, loads, procs, scale
from tests.support.configs import compose
from tests.support.daemon import ORPHANS_S, Unpd
from tests.support.launch import Launch
from tests.support.waiting import until

CONCURRENCY = 64
WORKERS = 20


def gone(unpd: Unpd, timeout_s: float = ORPHANS_S) -> None:
    """Wait until only zombies of the daemon are left, which this process has to
    reap.
    """
    until(
        lambda: not [left for left in unpd.family() if not left.zombie],
        timeout_s,
        lambda: f"no process left: {unpd.family()}",
    )


FREE_PORTS = """
[metrics]
listen = "tcp://127.0.0.1:0"

[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{directory}/echo.sock"]

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""


def test_kill_9_of_the_master_under_load(launch: Launch, tmp_path: Path) -> None:
    """After SIGKILL of the master, every worker and the exporter are gone within 2 s
    and every port is free. The same configuration starts at once, although old files
    are left.
    """
    text = compose(FREE_PORTS.format(directory=tmp_path), tmp_path)
    for _ in range(scale.many(20, at_least=2)):
        unpd = launch(text, verbatim=True)
        unpd.expect_exit(-SIGKILL)
        text = with_ports(unpd, text)
        with loads.running(unpd.address("echo"), rate=500, concurrency=CONCURRENCY) as client:
            client.more(50)
            killed_at = time.monotonic()
            assert unpd.stop(SIGKILL) == -SIGKILL
            gone(unpd)
            assert time.monotonic() - killed_at < ORPHANS_S
            client.wait(lambda client=client: client.count("refused") > 0, 5.0, "a refusal")  # type: ignore[misc]
        assert unpd.pid_file.exists()
        assert unpd.control.exists()
    last = launch(text, verbatim=True)
    for address in last.addresses("echo"):
        assert clients.converse(address, b"hello") == b"hello"
    assert last.stop() == 0
    assert not last.pid_file.exists()
    assert not last.control.exists()
    assert not (tmp_path / "echo.sock").exists()


def with_ports(unpd: Unpd, text: str) -> str:
    """Return the configuration with the ports that the kernel chose at the first start,
    in the order of the text.
    """
    for service in ("metrics", "echo", "daytime"):
        text = text.replace("tcp://127.0.0.1:0", f"tcp://127.0.0.1:{unpd.port(service)}", 1)
    return text


MANY_WORKERS = f"""
[pools.default]
workers = {WORKERS}
"""


@pytest.mark.slow
@faults.requires_strace()
def test_kill_9_of_the_master_between_fork_and_prctl(launch: Launch, tmp_path: Path) -> None:
    """The children of a master that dies before they have asked for their death signal
    end as well: each sees that it has another parent.
    """
    for number in range(scale.many(20)):
        prefix = faults.strace_prefix(
            tmp_path / f"trace-{number}", "capset", "capset:delay_exit=1500000"
        )
        unpd = launch(MANY_WORKERS, prefix=prefix, ready=False)
        unpd.expect_exit(-SIGKILL)
        until(
            lambda unpd=unpd: len(procs.child_pids(unpd.process.pid)) > WORKERS,  # type: ignore[misc]
            10.0,
            "all children to be forked",
        )
        orphans = procs.child_pids(unpd.process.pid)
        unpd.stop(SIGKILL)
        assert all(procs.alive(pid) for pid in orphans), (
            "the window was missed: the children died with their master"
        )
        gone(unpd, 1.5 + ORPHANS_S)
        assert not unpd.log_events("worker.ready")


@faults.requires_strace()
def test_a_failure_of_the_master_itself(launch: Launch, tmp_path: Path) -> None:
    """When the master's own loop keeps failing, the master ends its children before it
    leaves: exit code 1, a trace in the log, no process, file or port left.
    """
    unpd = launch()
    unpd.expect_exit(1)
    unpd.expect_errors("master.crashed")
    unpd.expect_traceback()
    with clients.connect(unpd.address("echo")) as sock:
        sock.send(b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
        with faults.straced(
            unpd.pid,
            tmp_path / "trace",
            "/^epoll_p?wait$",
            "/^epoll_p?wait$:error=EINVAL",
            follow=False,
        ):
            assert clients.read_all(sock) == b""
            sock.close()
            assert unpd.wait_exit() == 1
    assert unpd.log_events("connection.ended", cause="shutdown"), (
        "the worker was killed before it was asked to leave"
    )
    crashed = unpd.wait_event("master.crashed")
    assert "Invalid argument" in crashed.fields["error"]
    assert "in turn" in crashed.fields["trace"]


# --- the pid file ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_number_in_a_pid_file_names_no_process(launch: Launch) -> None:
    """Whatever a pid file says, no process is taken for the daemon. Without a daemon
    ``unpd stop`` says so, and a start replaces the file.
    """
    unpd = launch()
    arguments = ("stop", "--config", str(unpd.config_path))
    assert unpd.run(*arguments).returncode == 0
    assert unpd.wait_exit() == 0
    for number in (str(os.getpid()), "1", "0", "-1", "9" * 20, "nonsense", ""):
        unpd.pid_file.write_text(number)
        answer = unpd.run(*arguments)
        assert answer.returncode == 1
        assert b"unpd is not running" in answer.stderr
    unpd.pid_file.write_text("1")
    again = launch(unpd.config_path.read_text(), verbatim=True)
    assert again.pid_file == unpd.pid_file
    assert again.pid_file.read_text() == f"{again.pid}\n"
    again.stop()
