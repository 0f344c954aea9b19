"""``unpd doctor`` on this host, and the facts that it asks the kernel for."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.configs import compose
from tests.support.launch import Launch
from tests.support.ports import free_port
from unpd.cli.dispatch import run_command
from unpd.cli.doctor import process_facts
from unpd.cli.doctor.report import FIELDS
from unpd.control.answer_fields import mismatch
from unpd.kernel.clock import clock
from unpd.kernel.socket_diag import BoundSocket, bound_sockets
from unpd.names import ExitCode

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


@contextlib.contextmanager
def listening(family: socket.AddressFamily, host: str, backlog: int) -> Iterator[socket.socket]:
    """A TCP listener with a free port."""
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        sock.listen(backlog)
        yield sock


def listed(sock: socket.socket) -> BoundSocket:
    """The entry of a socket of this process."""
    inode = os.fstat(sock.fileno()).st_ino
    (found,) = [one for one in bound_sockets() if one.inode == inode]
    return found


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_kernel_lists_a_listener_with_its_queue_and_its_drops(
    family: socket.AddressFamily, host: str
) -> None:
    """A queue for one has room for two; the next client is dropped and counted."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listening(family, host, 1))
        address = sock.getsockname()[:2]
        for _ in range(2):
            client = stack.enter_context(socket.socket(family))
            client.connect(address)
        found = listed(sock)
        assert (found.transport, found.host, found.port) == ("tcp", *address)
        assert (found.queued, found.limit, found.drops) == (2, 1, 0)
        late = stack.enter_context(socket.socket(family))
        late.setblocking(False)
        late.connect_ex(address)
        assert listed(sock).drops >= 1
        assert process_facts.holder(found.inode).startswith(f"process {os.getpid()} (")


def test_the_kernel_lists_a_socket_of_datagrams() -> None:
    """With what found no room in its buffer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(b"x" * 1000, sock.getsockname())
        found = listed(sock)
        assert (found.transport, found.port) == ("udp", sock.getsockname()[1])
        assert found.drops > 0


def test_the_kernel_tells_about_its_clock() -> None:
    """Whatever it says: reading it needs no right."""
    found = clock()
    assert isinstance(found.synchronised, bool)
    assert found.max_error_s >= 0


def test_the_doctor_names_the_process_that_holds_a_port(
    launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It works with a daemon, whose own listeners are no finding, and finds the port
    that its file wants and this process holds. The exit code says so.
    """
    with listening(socket.AF_INET, "127.0.0.1", 5) as held:
        taken = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        unpd = launch(ECHO)
        text = unpd.config_path.read_text()
        unpd.config_path.write_text(f'{text}\n[services.discard]\nlisten = ["{taken}"]\n')
        code = run_command(["doctor", "--json", "--config", str(unpd.config_path)])
        report = json.loads(capsys.readouterr().out)
        assert mismatch(report, FIELDS) == ""
        assert (code, report["daemon"]) == (ExitCode.DEGRADED, unpd.pid)
        (finding,) = [one for one in report["findings"] if one["check"] == "ports"]
        assert finding["subject"] == "services.discard.listen"
        assert f"process {os.getpid()} (" in finding["found"]


def test_the_doctor_needs_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and makes the checks of the host."""
    config = tmp_path / "unpd.toml"
    listen = f'listen = ["tcp://127.0.0.1:{free_port()}"]\n'
    config.write_text(compose(f"[services.echo]\n{listen}", tmp_path))
    code = run_command(["doctor", "--config", str(config)])
    shown = capsys.readouterr().out
    assert code in (ExitCode.DONE, ExitCode.DEGRADED)
    assert " checks without a daemon: " in shown
    assert "ports: " not in shown
