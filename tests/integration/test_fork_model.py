"""The model fork: each client has a process of its own. What an operator sees of it,
which descriptors are open where, and how many sessions there may be.
"""

import contextlib
import os
import pwd
import re
import socket
import struct
import sys
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGUSR1
from typing import Any

import pytest

from tests.support import clients, faults, procs
from tests.support.counts import service_counts, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import parse_log, total
from tests.support.operating import ask, reload, status
from tests.support.sessions import (
    FORK,
    dispatcher,
    greet,
    no_session_left,
    served,
    session_of,
)
from tests.support.waiting import holds, until

TWO = """
[pools.default]
workers = 1

[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{directory}/echo.sock"]
model = "fork"

[services.second]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
model = "fork"
"""


# --- what an operator sees ------------------------------------------------------------


@pytest.mark.slow
def test_a_session_shows_its_service_and_its_client(launch: Launch, tmp_path: Path) -> None:
    """In its process title, in the status, in the answer of the dispatcher to the
    question for its connections, and in the metrics: forked and reaped processes,
    connections and bytes.
    """
    unpd = launch(TWO.format(directory=tmp_path))
    with contextlib.ExitStack() as stack:
        (first,) = served(stack, unpd.address("echo"))
        (second,) = served(stack, unpd.address("second"))
        served(stack, unpd.address("echo", 1))
        peers = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (first, second)]
        titles = {procs.title(pid) for pid in unpd.sessions()}
        assert titles == {
            f"unpd: session echo {peers[0]}",
            f"unpd: session second {peers[1]}",
            "unpd: session echo unix",
        }
        parent = dispatcher(unpd)
        assert {found.pid for found in procs.children(parent)} == set(unpd.sessions())
        assert not unpd.workers(), "no service of the pool has the model event"
        assert unpd.get("/readyz").status == 200
        shown = status(unpd)
        of_services = {one["name"]: (one["active"], one["accepted"]) for one in shown["services"]}
        assert of_services == {"echo": (2, 2), "second": (1, 1)}
        (child,) = [one for one in shown["children"] if one["kind"] == "dispatcher"]
        assert (child["phase"], child["pid"], child["generation"]) == ("ready", parent, 1)
        found = connections(unpd)
        assert {(one["service"], one["peer"]) for one in found} == {
            ("echo", peers[0]),
            ("second", peers[1]),
            ("echo", "unix"),
        }
        assert all(one["state"] == "serving" and one["age_s"] >= 0 for one in found)
        unpd.metric_becomes(3, "unpd_received_bytes_total")
        assert [one["received"] for one in connections(unpd)] == [1, 1, 1]
        assert unpd.total("unpd_session_processes_reaped_total") == 0
    wait_ended(unpd, {"client_fin": 1}, service="second")
    counts = wait_ended(unpd, {"client_fin": 2})
    assert (counts.accepted, counts.received, counts.sent) == (2, 2, 2)
    assert connections(unpd) == []
    samples = unpd.metrics()
    for service, number in (("echo", 2), ("second", 1)):
        for name in ("spawned_total", "reaped_total"):
            assert total(samples, f"unpd_session_processes_{name}", service=service) == number
        clean = {"service": service, "reason": "clean"}
        assert total(samples, "unpd_session_processes_reaped_total", **clean) == number
    unpd.metric_becomes(0, "unpd_zombies")


def connections(unpd: Unpd) -> list[dict[str, Any]]:
    """The connections that the daemon lists."""
    answer = ask(unpd.control, verb="connections")
    assert (answer["next"], answer["silent"]) == (None, None)
    return list(answer["connections"])


# --- descriptors ----------------------------------------------------------------------


def test_the_socket_of_a_client_is_open_in_its_session_alone(
    launch: Launch, tmp_path: Path
) -> None:
    """And no session has a listener, a channel or the client of another session. So the
    kernel sends the FIN as soon as a session ends, whatever the others do.
    """
    unpd = launch(TWO.format(directory=tmp_path))
    ports = {unpd.port("echo"), unpd.port("second")}
    with contextlib.ExitStack() as stack:
        socks = [
            *served(stack, unpd.address("echo"), 2),
            *served(stack, unpd.address("second")),
        ]
        (local,) = served(stack, unpd.address("echo", 1))
        sessions = {session_of(unpd, sock): sock for sock in socks}
        open_in = sockets_of(unpd)
        for pid, sock in sessions.items():
            inode = inode_of(unpd, sock)
            assert [holder for holder, inodes in open_in.items() if inode in inodes] == [pid]
        for pid in unpd.sessions():
            assert len(open_in[pid]) == 1, f"{procs.title(pid)} has {procs.fds(pid)}"
        listeners = {inode for port in ports for inode in inodes_of(port, LISTENING)}
        assert len(listeners) == 2
        assert {pid for pid, inodes in open_in.items() if inodes & listeners} == {
            unpd.pid,
            dispatcher(unpd),
        }
        with procs.stopped([unpd.pid, dispatcher(unpd), *unpd.sessions()[1:]]):
            victim = unpd.sessions()[0]
            sock = sessions.get(victim, local)
            procs.kill([victim])
            assert clients.read_all(sock) == b""
        for other in {*socks, local} - {sock}:
            greet(other)
    unpd.metric_becomes(0, "unpd_connections_active")


LISTENING, ESTABLISHED = "0A", "01"
"""States of a TCP socket, as /proc/net/tcp writes them."""


def inodes_of(port: int, state: str, peer: int = 0) -> set[str]:
    """The sockets on a port of ours in a state, as /proc/PID/fd shows them. ``peer``:
    the port of the other side.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        f"socket:[{row[9]}]"
        for row in rows
        if row[3] == state and (int(row[1][9:], 16), int(row[2][9:], 16)) == (port, peer)
    }


def inode_of(unpd: Unpd, sock: socket.socket) -> str:
    """The daemon's socket of a client."""
    port, own = sock.getpeername()[1], sock.getsockname()[1]
    (found,) = inodes_of(port, ESTABLISHED, own)
    return found


def sockets_of(unpd: Unpd) -> dict[int, set[str]]:
    """The sockets that each process of the daemon has open."""
    return {
        process.pid: {
            target for target in procs.fds(process.pid).values() if target.startswith("socket:")
        }
        for process in unpd.family()
    }


OTHER = """
[services.other]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
model = "fork"
"""


def mistaken(mistake: str) -> tuple[str, ...]:
    """The command of a daemon with a mistake of :mod:`tests.support.mistaken`."""
    return (sys.executable, "-m", "tests.support.mistaken", mistake)


def test_a_dispatcher_that_keeps_the_socket_holds_the_end_back(launch: Launch) -> None:
    """The first mistake of UNP's reader: the parent does not close the connection. Its
    client waits although the session has ended, until the dispatcher ends too.
    """
    unpd = launch(FORK, command=mistaken("parent_keeps_connection"))
    with clients.connect(unpd.address("echo")) as sock:
        greet(sock).shutdown(socket.SHUT_WR)
        until(no_session_left(unpd), 10.0, "the session to end")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(10.0)
        procs.kill([dispatcher(unpd)])
        assert clients.read_all(sock) == b""


def test_a_session_that_keeps_the_listener_lets_clients_wait_in_vain(launch: Launch) -> None:
    """The second: the child does not close the listener. The daemon has closed it, and
    the kernel refuses nobody: a client waits for a server that is not there.
    """
    unpd = launch(FORK, command=mistaken("child_keeps_listener"))
    where = unpd.address("echo")
    with clients.connect(where) as sock:
        greet(sock)
        reload(unpd, OTHER)
        until(lambda: unpd.log_events("listener.closed"), 10.0, "the address to be closed")
        with pytest.raises(TimeoutError), clients.connect(where, timeout_s=0.3) as late:
            greet(late)


def test_the_kernel_refuses_clients_when_the_last_listener_is_closed(launch: Launch) -> None:
    """Without that mistake nobody connects in vain while a session goes on."""
    unpd = launch(FORK)
    where = unpd.address("echo")
    assert not isinstance(where, str)
    with clients.connect(where) as sock:
        greet(sock)
        reload(unpd, OTHER)
        until(lambda: clients.refuses(where[1]), 10.0, "the port to refuse clients")
        greet(sock)


# --- the calls of UNP's server --------------------------------------------------------


@faults.requires_strace()
def test_the_calls_are_those_of_the_concurrent_server(launch: Launch, tmp_path: Path) -> None:
    """The dispatcher accepts, forks, and closes the connection; the session closes the
    listener before anything else; SIGCHLD comes, and its handler calls waitpid until no
    child is dead. Figure 5.12 of the book, as the kernel sees it.
    """
    unpd = launch(FORK)
    parent, port = dispatcher(unpd), unpd.port("echo")
    (listener,) = inodes_of(port, LISTENING)
    (listener_fd,) = [fd for fd, target in procs.fds(parent).items() if target == listener]
    calls = "accept4,clone,clone3,fork,vfork,close,close_range,wait4,/^epoll_p?wait$"
    with faults.straced(parent, tmp_path / "trace", calls) as trace:
        with clients.connect(unpd.address("echo")) as sock:
            session = session_of(unpd, greet(sock))
        wait_ended(unpd, {"client_fin": 1})
    lines = trace.whole_calls()
    accepted = find(lines, rf"{parent} +accept4\({listener_fd}, .*\) = (\d+)$")
    fd = accepted.group(1)
    forked = find(lines, rf"{parent} .*(clone|clone3|fork|vfork)\(.*= {session}$")
    closed = find(lines, rf"{parent} +close\({fd}\) += 0$")
    assert accepted.start() < forked.start() < closed.start()
    first = find(lines, rf"{session} +\w+\(.*$")
    assert re.search(rf"close\({listener_fd}\) += 0$", first.group()), first.group()
    sigchld = find(lines, rf"{parent} +--- SIGCHLD .*si_pid={session}, .*---$")
    reaped = find(lines, rf"{parent} +wait4\(-1, .*WNOHANG.*\) = {session}$")
    text = "\n".join(lines)
    assert "epoll" not in text[sigchld.end() : reaped.start()], "the handler did not reap"
    assert sigchld.start() < reaped.start()
    after = text[reaped.end() :].splitlines()
    last = find(after, rf"{parent} +wait4\(.*$").group()
    assert re.search(r"= (0|-1 ECHILD .*)$", last), last


def find(lines: list[str], pattern: str) -> re.Match[str]:
    """The first line of a trace that matches."""
    found = re.search(f"^{pattern}", "\n".join(lines), re.MULTILINE)
    assert found, f"no line matches {pattern}:\n" + "\n".join(lines)
    return found


# --- how many -------------------------------------------------------------------------

THREE = FORK + "max_connections = 3\n"


@pytest.mark.slow
def test_the_limit_is_reached_exactly_and_clients_wait_beyond_it(launch: Launch) -> None:
    """The others stay in the queue of the listener, where the metrics show them, and
    are served in their order as sessions end. The dispatcher rests meanwhile, the
    limit of the other service is its own, and with the last client all is as before.
    """
    unpd = launch(THREE + OTHER)
    with contextlib.ExitStack() as stack:
        first = served(stack, unpd.address("echo"), 3)
        waiting = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(4)]
        for sock in waiting:
            sock.sendall(b"x")
        unpd.metric_becomes(4, "unpd_listen_queue_length", service="echo")
        served(stack, unpd.address("other"))
        used_s = procs.cpu_s(dispatcher(unpd))
        holds(lambda: len(unpd.sessions("echo")) == 3, 0.5, "more sessions than the limit allows")
        assert procs.cpu_s(dispatcher(unpd)) - used_s < 0.2
        assert service_counts(unpd).accepted == 3
        for sock in waiting[:3]:
            first.pop().close()
            assert clients.read_exactly(sock, 1) == b"x"
            assert len(unpd.sessions("echo")) <= 3
        waiting[0].close()
        assert clients.read_exactly(waiting[3], 1) == b"x"
    wait_ended(unpd, {"client_fin": 7})


def test_the_limit_holds_over_a_reload(launch: Launch) -> None:
    """The sessions of the retired dispatcher count: the next one leaves clients in the
    queue until these end. So for each service by itself.
    """
    unpd = launch(THREE)
    old = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        before = served(stack, unpd.address("echo"), 2)
        reload(unpd, every_pool=True)
        until(lambda: " draining" in procs.title(old), 10.0, "the old dispatcher to drain")
        served(stack, unpd.address("echo"))
        late = stack.enter_context(clients.connect(unpd.address("echo")))
        late.sendall(b"x")
        holds(lambda: len(unpd.sessions()) == 3, 0.5, "more sessions than the limit allows")
        (left,) = status(unpd)["retired"]
        assert left.pop("drain_ends_at").endswith("Z")
        assert left == {"generation": 1, "children": 1, "connections": 2}
        before.pop().close()
        assert clients.read_exactly(late, 1) == b"x"
        assert len(unpd.sessions()) == 3
        before.pop().close()
        until(lambda: not procs.alive(old), 10.0, "the old dispatcher to leave")
    wait_ended(unpd, {"client_fin": 4})


# --- the surroundings of a session ----------------------------------------------------


def test_a_client_that_has_gone_gets_no_process(launch: Launch) -> None:
    """A fork takes longer than to connect and close. What such a client sent is served;
    and a service that speaks first serves one that sends nothing, because it may read.
    """
    speaking = FORK.replace("echo", "daytime")
    unpd = launch(FORK + speaking)
    parent = dispatcher(unpd)
    os.kill(parent, SIGSTOP)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            clients.connect(unpd.address("echo")).close()
        reset = clients.connect(unpd.address("echo"))
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        with_data, silent = (
            stack.enter_context(clients.connect(unpd.address(name))) for name in ("echo", "daytime")
        )
        with_data.sendall(b"hello")
        for sock in (with_data, silent):
            sock.shutdown(socket.SHUT_WR)
        os.kill(parent, SIGCONT)
        assert clients.read_all(with_data) == b"hello"
        assert clients.read_all(silent).endswith(b"\r\n")
    unpd.metric_becomes(4, "unpd_connections_ended_total", service="echo", cause="client_fin")
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="echo", cause="client_rst")
    assert unpd.metric("unpd_session_processes_spawned_total", service="echo") == 1
    assert unpd.metric("unpd_session_processes_spawned_total", service="daytime") == 1
    for name in ("echo", "daytime"):
        unpd.metric_becomes(0, "unpd_connections_active", service=name)


def test_a_session_keeps_the_log_with_which_it_began(launch: Launch, tmp_path: Path) -> None:
    """After a rotation the dispatcher and later sessions write to the new file, and
    each line stands in one of the two.
    """
    path, old = tmp_path / "unpd.log", tmp_path / "unpd.log.1"
    tmp_path.chmod(0o755)
    unpd = launch(f'[log]\nfile = "{path}"\n{FORK}')
    with contextlib.ExitStack() as stack:
        (early,) = served(stack, unpd.address("echo"))
        ports, address = [early.getsockname()[1]], unpd.address("echo")
        path.rename(old)
        unpd.signal(SIGUSR1)
        parent = dispatcher(unpd)
        until(lambda: str(path) in procs.fds(parent).values(), 10.0, "the dispatcher to follow")
        assert str(old) not in procs.fds(parent).values()
        (late,) = served(stack, address)
        ports.append(late.getsockname()[1])
    until(lambda: not unpd.sessions(), 10.0, "the sessions to end")
    for file, port in zip((old, path), ports, strict=True):
        ended = [event for event in parse_log(file.read_text()) if event.name == "connection.ended"]
        assert [event.fields["peer"] for event in ended] == [f"127.0.0.1:{port}"]
    assert not unpd.log_events("log.not_reopened")


@faults.requires_root
def test_a_session_runs_as_the_user_without_privileges(launch: Launch) -> None:
    """It has the ids of its dispatcher, which gave up everything before it forked."""
    account = pwd.getpwnam("daemon")
    unpd = launch(f'[daemon]\nuser = "daemon"\n{FORK}')
    with contextlib.ExitStack() as stack:
        served(stack, unpd.address("echo"))
        (session,) = unpd.sessions()
        for pid in (session, dispatcher(unpd)):
            found = procs.credentials(pid)
            assert (found.uids, found.gids) == ((account.pw_uid,) * 4, (account.pw_gid,) * 4)
            assert (found.groups, found.no_new_privileges) == ((), True)
            names = ("CapInh", "CapPrm", "CapEff")
            assert [found.capabilities[name] for name in names] == [0, 0, 0]


def test_a_session_costs_little_memory(launch: Launch) -> None:
    """It shares its pages with the dispatcher, until one of them writes there: what is
    its own stays below 4 MiB, also after many bytes.
    """
    unpd = launch(FORK)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        for _ in range(100):
            sock.sendall(bytes(10_000))
            clients.read_exactly(sock, 10_000)
        (session,) = unpd.sessions()
        assert procs.private_bytes(session) < 4 << 20


def test_tcpmux_forks_a_session_for_each_client(launch: Launch) -> None:
    """The session serves what the client names; the title stays that of tcpmux."""
    unpd = launch(
        """
        [services.tcpmux]
        listen = ["tcp://127.0.0.1:0"]
        model = "fork"
        services = ["echo", "time"]

        [services.echo]
        listen = ["tcp://127.0.0.1:0"]

        [services.time]
        listen = ["tcp://127.0.0.1:0"]
        """
    )
    address = unpd.address("tcpmux")
    assert clients.converse(address, b"help\r\n") == b"echo\r\ntime\r\n"
    assert len(clients.converse(address, b"time\r\n")) == len("+Go\r\n") + 4
    assert clients.converse(address, b"qotd\r\n") == b"-There is no such service\r\n"
    with clients.connect(address) as sock:
        sock.sendall(b"echo\r\nhello")
        assert clients.read_exactly(sock, 10) == b"+Go\r\nhello"
        assert procs.title(session_of(unpd, sock)).startswith("unpd: session tcpmux ")
    wait_ended(unpd, {"done": 3, "client_fin": 1}, service="tcpmux")
    assert service_counts(unpd).accepted == 0
