"""Programs (type exec) that take their clients themselves (wait, keep), and sockets
passed as systemd passes them.
"""

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.programs import (
    PATIENCE_S,
    TELL_PID,
    begun,
    ended,
    executable,
    gone,
    kill_launcher,
    launcher,
    read_line,
    service,
    shell,
)
from tests.support.waiting import holds, until

SYSTEMD = {"pass": "systemd"}
PYTHON = os.path.realpath(sys.executable)

ACCEPT = """#!{python} -IS
import os, socket
listener = socket.socket(fileno=0)
for _ in range(2):
    connection, _ = listener.accept()
    connection.sendall(b"%d\\n" % os.getpid())
    connection.recv(1)
    connection.close()
"""
"""Serves two clients, one after the other."""

ANSWER = """#!{python} -IS
import os, socket
sock = socket.socket(fileno=0)
sock.settimeout(0.3)
try:
    while True:
        _, peer = sock.recvfrom(65536)
        sock.sendto(b"%d" % os.getpid(), peer)
except TimeoutError:
    pass
"""
"""Answers datagrams until none comes for a while, as in.tftpd does."""

KEPT = """#!{python} -IS
import os, socket, sys
assert os.environ["LISTEN_PID"] == str(os.getpid())
print("begun", os.environ["LISTEN_FDNAMES"], flush=True)
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"%d\\n" % os.getpid())
    connection.close()
"""
"""Serves clients for ever."""


PASSED = """#!{python} -IS
import fcntl, os, socket
if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
    raise SystemExit("no sockets are passed to this process")
count = int(os.environ.pop("LISTEN_FDS"))
names = os.environ.pop("LISTEN_FDNAMES").split(":")
assert count == len(names) == 1, (count, names)
fcntl.fcntl(3, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
sock = socket.socket(fileno=3)
for _ in range(2):
    if sock.type is socket.SOCK_STREAM:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with sock.accept()[0] as connection:
            connection.sendall(f"{{os.getpid()}} {{names[0]}}\\n".encode())
            connection.recv(1)
    else:
        _, peer = sock.recvfrom(65536)
        sock.sendto(f"{{os.getpid()}} {{names[0]}}\\n".encode(), peer)
"""
"""Serves two clients as sd_listen_fds(3) and sd_is_socket(3) want it."""
PROXY = Path("/lib/systemd/systemd-socket-proxyd")


def python(path: Path, text: str) -> str:
    """Write a program in Python; return its path."""
    return executable(path, text.format(python=PYTHON))


def running(unpd: Unpd) -> list[int]:
    """The programs of the only launcher."""
    return [child.pid for child in procs.children(launcher(unpd)) if not child.zombie]


# --- wait -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_program_takes_the_clients_of_a_listener(launch: Launch, public: Path) -> None:
    """One program has the listener as descriptor 0. The next one begins with the next
    client after its end.
    """
    unpd = launch(service("two", python(public / "two", ACCEPT), wait=True))
    assert running(unpd) == []
    pids = []
    for _ in range(4):
        with clients.connect(unpd.address("two")) as sock:
            pids.append(int(read_line(sock)))
    assert pids[0] == pids[1] != pids[2] == pids[3]
    # The programs have changed the socket, as they may: it waits, as after inetd.
    holds(lambda: not unpd.log_events("listener.mended"), 1.2, "nobody to mend the listener")
    unpd.metric_becomes(2, "unpd_programs_ended_total", service="two", result="ok")
    assert running(unpd) == []


def test_a_program_takes_datagrams(launch: Launch, public: Path) -> None:
    """It has the socket itself, and answers from the address that was asked."""
    unpd = launch(
        service("answer", python(public / "answer", ANSWER), listen="udp://127.0.0.1:0", wait=True)
    )
    (address,) = unpd.addresses("answer")
    pids = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(address)
        for _ in range(3):
            sock.send(b"x")
            pids.add(int(sock.recv(100)))
        (pid,) = pids
        gone(pid)
        sock.send(b"x")
        assert int(sock.recv(100)) != pid
    until(lambda: not running(unpd), PATIENCE_S, "the program to end")


def test_a_program_that_takes_nothing_is_throttled(launch: Launch) -> None:
    """It ends at once, and the client is still there: the pauses between the programs
    grow, and others are served.
    """
    unpd = launch(service("idle", "/bin/true", wait=True) + service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        stack.enter_context(clients.connect(unpd.address("idle")))
        began = time.monotonic()
        until(
            lambda: unpd.total("unpd_programs_ended_total", service="idle") >= 4,
            PATIENCE_S,
            "four programs",
        )
        assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
        begun(stack, unpd.address("cat"))
    assert unpd.total("unpd_programs_ended_total", service="idle") < 8


def test_a_successor_does_not_start_a_second_program(launch: Launch, public: Path) -> None:
    """The launcher dies while a program has the listener: the next one waits for its
    end.
    """
    unpd = launch(service("two", python(public / "two", ACCEPT), wait=True))
    with clients.connect(unpd.address("two")) as sock:
        pid = int(read_line(sock))
        kill_launcher(unpd, launcher(unpd))
        with clients.connect(unpd.address("two")) as second:
            holds(lambda: running(unpd) == [], 0.5, "no second program")
            sock.close()
            assert int(read_line(second)) == pid
    gone(pid)
    with clients.connect(unpd.address("two")) as sock:
        assert int(read_line(sock)) != pid


def test_a_reload_does_not_start_a_second_program(launch: Launch, public: Path) -> None:
    """A program of the configuration before has the listener: the next one waits for
    its end.
    """
    unpd = launch(service("two", python(public / "two", ACCEPT), wait=True, umask="0022"))
    with clients.connect(unpd.address("two")) as sock:
        pid = int(read_line(sock))
        before = launcher(unpd)
        reload(unpd, unpd.config_path.read_text().replace("0022", "0027"))
        after = until(lambda: launcher(unpd) != before and launcher(unpd), PATIENCE_S, "another")
        with clients.connect(unpd.address("two")) as second:
            holds(lambda: running(unpd) == [], 0.5, "no second program")
            sock.close()
            assert int(read_line(second)) == pid
    gone(pid)
    with clients.connect(unpd.address("two")) as sock:
        assert int(read_line(sock)) != pid
    assert launcher(unpd) == after


# --- passed as systemd does -----------------------------------------------------------


def test_a_connection_is_descriptor_3(launch: Launch) -> None:
    """With the variables of sd_listen_fds(3). Standard input is /dev/null, and standard
    output goes to the log.
    """
    told = "echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES >&3"
    unpd = launch(
        service("third", *shell(f"echo logged; {told}; sleep 1 & wait; cat <&3 >&3"), **SYSTEMD)
    )
    with clients.connect(unpd.address("third")) as sock:
        own, pid, count, names = read_line(sock).decode().split()
        assert (own, count, names) == (pid, "1", "connection")

        def waits() -> bool:
            fds = procs.fds(int(pid))
            return set(fds) == {0, 1, 2, 3} and fds[0] == "/dev/null" != fds[1] == fds[2] != fds[3]

        until(waits, PATIENCE_S, "four descriptors, the shell's own redirections being over")
        sock.sendall(b"x\n")
        assert read_line(sock) == b"x"
    unpd.wait_event("program.stderr", service="third", text="logged")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_whole_socket_is_descriptor_3(launch: Launch, public: Path, scheme: str) -> None:
    """With wait. A program that follows sd_listen_fds(3) to the letter serves; the next
    one begins with the next client after its end, and has its own LISTEN_PID.
    """
    keys: dict[str, Any] = {**SYSTEMD, "listen": f"{scheme}://127.0.0.1:0", "wait": True}
    unpd = launch(service("passed", python(public / "passed", PASSED), **keys))
    (address,) = unpd.addresses("passed")
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM
    told = []
    for _ in range(4):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(address)
            if kind is socket.SOCK_DGRAM:
                sock.send(b"x")
            told.append(sock.recv(100).decode().split())
    assert [name for _, name in told] == ["passed"] * 4
    pids = [pid for pid, _ in told]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    ended(unpd, "passed", ok=2)


@pytest.mark.skipif(not PROXY.exists(), reason="needs systemd-socket-proxyd")
@pytest.mark.parametrize("keys", [{"wait": True}, {"keep": 2}], ids=["wait", "keep"])
def test_systemd_socket_proxyd_serves(launch: Launch, keys: dict[str, Any]) -> None:
    """A program of systemd's own takes a listener of unpd and relays to another daemon.
    It keeps no half-close.
    """
    target = launch(service("cat", "/bin/cat"))
    to = f"127.0.0.1:{target.port('cat')}"
    unpd = launch(service("proxy", str(PROXY), to, **SYSTEMD, **keys))
    data = bytes(range(256)) * 40
    for _ in range(3):
        with clients.connect(unpd.address("proxy")) as sock:
            sock.sendall(data)
            assert clients.read_exactly(sock, len(data)) == data
    assert len(running(unpd)) == keys.get("keep", 1)
    assert unpd.total("unpd_programs_ended_total", service="proxy") == 0
    ended(target, "cat", ok=3)


# --- keep -----------------------------------------------------------------------------


def test_programs_are_kept(launch: Launch, public: Path) -> None:
    """They run before a client comes, share the listener, and are replaced when they
    end, when the configuration changes, and when the daemon stops.
    """
    kept = python(public / "kept", KEPT)
    unpd = launch(service("kept", kept, keep=3, **SYSTEMD))
    until(lambda: len(running(unpd)) == 3, PATIENCE_S, "three programs")
    first = set(running(unpd))
    unpd.wait_event("program.stderr", service="kept", text="begun kept", after=2)
    with clients.connect(unpd.address("kept")) as sock:
        assert int(read_line(sock)) in first
    victim = min(first)
    os.kill(victim, SIGKILL)
    until(
        lambda: len(found := running(unpd)) == 3 and victim not in found, PATIENCE_S, "the fourth"
    )
    unpd.wait_event("program.stderr", service="kept", text="begun kept", after=3)
    before = set(running(unpd))
    reload(unpd, unpd.config_path.read_text().replace("keep = 3", "keep = 2"))
    for pid in before:
        gone(pid)
    until(lambda: len(running(unpd)) == 2, PATIENCE_S, "two new ones")
    unpd.wait_event("program.stderr", service="kept", text="begun kept", after=5)
    unpd.stop()


def test_a_kept_program_that_ends_at_once_is_throttled(launch: Launch) -> None:
    """The pauses grow: the fifth comes 0.8 s after the fourth."""
    unpd = launch(service("brief", "/bin/true", keep=1, **SYSTEMD))

    def have_ended(number: int) -> None:
        until(
            lambda: unpd.total("unpd_programs_ended_total", service="brief") >= number,
            PATIENCE_S,
            f"{number} programs",
        )

    have_ended(4)
    began = time.monotonic()
    have_ended(5)
    assert time.monotonic() - began >= 0.4
    assert unpd.total("unpd_programs_ended_total", service="brief") < 8
