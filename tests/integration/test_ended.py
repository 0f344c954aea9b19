"""``unpd connections --ended`` lists the connections that ended last, of all children,
with the cause that the log and the metrics have for each.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest

from tests.support import clients, procs
from tests.support.clients import Address
from tests.support.counts import ENDED as ENDED_TOTAL
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.faults import Network, network, requires_namespaces
from tests.support.launch import Launch
from tests.support.memory_sink import MemorySink
from tests.support.operating import reload
from tests.support.ports import free_port
from tests.support.programs import service
from tests.support.runtimes import running
from tests.support.waiting import until
from unpd.board.ended import EndedRing, RecentEnd, recent_ends
from unpd.board.layout import MOST_ENDED, Ended, Ring, service_cells
from unpd.cli.ended_text import _KEYS
from unpd.control.answer_fields import mismatch
from unpd.control.client_fields import ENDED, ENDED_PAGE
from unpd.control.client_verbs import SORT_KEYS
from unpd.core.model import Child, Slot
from unpd.kernel.tcp_info import PathQuality
from unpd.logs import Log
from unpd.loop import now
from unpd.master import ended
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ChildKind, ChildPhase, EndCause

CLIENT = "127.0.0.1"
ELSEWHERE = "127.0.0.2"
PIDFD_GETFD = 438


def listed(unpd: Unpd, *words: str) -> list[dict[str, Any]]:
    """The ends that the command lists."""
    done = unpd.run("connections", "--ended", "--json", "--control", str(unpd.control), *words)
    assert (done.returncode, done.stderr) == (0, b"")
    found: list[dict[str, Any]] = json.loads(done.stdout)["ended"]
    assert all(set(one) == {field.name for field in ENDED} for one in found)
    return found


def causes(unpd: Unpd) -> set[tuple[str, str]]:
    """The causes that the list has, each with its service."""
    return {(one["cause"], one["service"]) for one in listed(unpd)}


def counted(unpd: Unpd) -> dict[tuple[str, str], float]:
    """How often the metrics count each cause, with its service."""
    return {
        (dict(labels)["cause"], dict(labels)["service"]): number
        for (name, labels), number in unpd.metrics().items()
        if name == ENDED_TOTAL and number
    }


def seen(unpd: Unpd, expected: Sequence[tuple[EndCause, str]]) -> None:
    """Wait until each cause, with its service, is in the metrics, the log, and the
    list, once, and no other cause is.
    """
    once = dict.fromkeys(expected, 1)
    until(lambda: counted(unpd) == once, 10.0, lambda: f"the metrics, which are {counted(unpd)}")
    logged = {
        (event.fields["cause"], event.fields["service"])
        for event in unpd.log_events("connection.ended")
    }
    assert logged == {*expected}
    until(lambda: causes(unpd) == {*expected}, 10.0, lambda: f"the list, which is {causes(unpd)}")
    assert len(listed(unpd)) == len(expected)


# --- causes of quick ends -------------------------------------------------------------

QUICK_ENDS = (
    (EndCause.CLIENT_FIN, "echo"),
    (EndCause.CLIENT_RST, "reset"),
    (EndCause.DONE, "daytime"),
    (EndCause.ERROR, "failing"),
    (EndCause.NO_TARGET, "nowhere"),
    (EndCause.TARGET_LOST, "lost"),
    (EndCause.WORKER_DIED, "forked"),
    (EndCause.KICKED, "kicked"),
)
"""The causes, each with the service whose client provokes it."""
QUICK = """
[pools.default]
workers = 1
[services.echo]
listen = ["tcp://127.0.0.1:0"]
[services.reset]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
[services.kicked]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
[services.forked]
type = "echo"
model = "fork"
listen = ["tcp://127.0.0.1:0"]
[services.nowhere]
type = "redirect"
to = ["tcp://127.0.0.1:{closed}"]
listen = ["tcp://127.0.0.1:0"]
[services.lost]
type = "redirect"
to = ["tcp://127.0.0.1:{target}"]
listen = ["tcp://127.0.0.1:0"]
"""


def greeted(address: Address) -> socket.socket:
    """A client of an echo that has got two bytes back."""
    sock = clients.connect(address)
    sock.sendall(b"hi")
    assert clients.read_exactly(sock, 2) == b"hi"
    return sock


def read_to_the_end(sock: socket.socket) -> None:
    """Read until the server ends the connection in whatever way."""
    with sock, contextlib.suppress(ConnectionResetError):
        clients.read_all(sock)


def visit(address: Address) -> None:
    """Be a client that the server ends, perhaps before connect(2) has returned."""
    with contextlib.suppress(ConnectionResetError):
        read_to_the_end(clients.connect(address))


def a_session_dies(unpd: Unpd) -> None:
    """Kill the process that serves a client."""
    with greeted(unpd.address("forked")) as sock:
        (pid,) = unpd.sessions("forked")
        os.kill(pid, signal.SIGKILL)
        read_to_the_end(sock)


def a_target_dies(unpd: Unpd, listener: socket.socket) -> None:
    """Reset the connection of a redirect to its target."""
    with clients.connect(unpd.address("lost")) as sock:
        sock.sendall(b"hi")
        target, _ = listener.accept()
        assert clients.read_exactly(target, 2) == b"hi"
        clients.reset(target)
        read_to_the_end(sock)


def test_each_cause_of_a_quick_end_is_seen_under_its_name(launch: Launch) -> None:
    """A client of each service ends in another way. The log, the metrics and the list
    have the same cause, once.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = QUICK.format(closed=free_port(), target=listener.getsockname()[1])
        unpd = launch(text + service("failing", "/bin/false"))
        unpd.expect_errors("program.failed", "redirect.no_target", "session.died")
        greeted(unpd.address("echo")).close()
        clients.reset(greeted(unpd.address("reset")))
        clients.ask(unpd.address("daytime"))
        visit(unpd.address("failing"))
        visit(unpd.address("nowhere"))
        a_target_dies(unpd, listener)
        a_session_dies(unpd)
        with greeted(unpd.address("kicked")) as sock:
            unpd.run("kick", "--service", "kicked", "--control", str(unpd.control))
            read_to_the_end(sock)
    seen(unpd, QUICK_ENDS)
    (echo,) = listed(unpd, "--service", "echo")
    assert (echo["received"], echo["sent"], echo["retransmits"]) == (2, 2, 0)
    assert 0 < echo["rtt_s"] < 10
    assert 0 <= echo["duration_s"] < 60
    assert unpd.metric("unpd_connection_rtt_seconds_count", service="echo") == 1
    (failing,) = listed(unpd, "--service", "failing")
    assert (failing["rtt_s"], failing["retransmits"]) == (None, None)
    assert listed(unpd, "--peer", "192.0.2.0/24") == []
    table = unpd.run("connections", "--ended", "--sort", "service", "--control", str(unpd.control))
    header, *lines = table.stdout.decode().splitlines()
    names = ["ENDED", "SERVICE", "PEER", "CAUSE", "LASTED", "RECEIVED", "SENT", "RTT"]
    assert header.split() == [*names, "RETRANSMITS"]
    assert [line.split()[1] for line in lines] == sorted(line.split()[1] for line in lines)


SLOW_ENDS = (
    (EndCause.IDLE, "idle"),
    (EndCause.SESSION_LIMIT, "session"),
    (EndCause.STALLED, "stall"),
    (EndCause.DENIED, "denied"),
    (EndCause.SHUTDOWN, "draining"),
)
SLOW = """
[daemon]
reload_grace_s = 0.2
[services.idle]
type = "echo"
idle_timeout_s = 0.5
listen = ["tcp://127.0.0.1:0"]
[services.session]
type = "echo"
session_timeout_s = 0.5
listen = ["tcp://127.0.0.1:0"]
[services.stall]
type = "echo"
user_timeout_s = 0.5
listen = ["tcp://127.0.0.1:0"]
[services.denied]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
[services.draining]
type = "echo"
listen = ["tcp://127.0.0.1:0"]
idle_timeout_s = {idle}
"""


@pytest.mark.slow
def test_each_cause_of_a_slow_end_is_seen_under_its_name(launch: Launch) -> None:
    """Those of time, of a denial, and of a process that had to go: its ends are listed
    though it is gone.
    """
    unpd = launch(SLOW.format(idle=600))
    visit(unpd.address("idle"))
    visit(unpd.address("session"))
    with clients.connect(unpd.address("stall"), receive_buffer=1) as sock:
        clients.send_until_blocked(sock, 8 << 20, stall_s=0.1)
        wait_active(unpd, 0, service="stall")
    with clients.connect(unpd.address("denied"), source=ELSEWHERE) as sock:
        wait_active(unpd, 1, service="denied")
        unpd.run("deny", ELSEWHERE, "--kick", "--control", str(unpd.control))
        read_to_the_end(sock)
    with greeted(unpd.address("draining")) as sock:
        reload(unpd, SLOW.format(idle=601))
        read_to_the_end(sock)
    seen(unpd, SLOW_ENDS)


# --- hosts that are gone --------------------------------------------------------------


def socket_of(pid: int, peer: Address) -> socket.socket:
    """A copy of the socket that a process has to ``peer`` (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for fd, target in procs.fds(pid).items():
            if not target.startswith("socket:"):
                continue
            copy = socket.socket(fileno=libc.syscall(PIDFD_GETFD, pidfd, int(fd), 0))
            with contextlib.suppress(OSError):
                if copy.getpeername() == peer:
                    return copy
            copy.close()
    finally:
        os.close(pidfd)
    raise AssertionError(f"process {pid} has no connection to {peer}")


def vanishes(unpd: Unpd, net: Network, sock: socket.socket) -> None:
    """The client's host is gone while an answer is on its way."""
    with procs.stopped(unpd.workers()):
        sock.sendall(b"more")
        net.cut()


def is_unreachable(unpd: Unpd, net: Network, sock: socket.socket) -> None:
    """The client's host does not answer who has its address (ARP), as one without
    power, so that the server's own kernel reports that it cannot be reached.
    """
    net.server.sysctl("net.ipv4.neigh.wire.retrans_time_ms", "100")
    with procs.stopped(unpd.workers()):
        sock.sendall(b"more")
        net.client.ip("link", "set", "wire", "arp", "off")
        net.server.ip("neigh", "flush", "dev", "wire")


def answers_no_probe(unpd: Unpd, net: Network, sock: socket.socket) -> None:
    """The client's host is gone while nothing is on its way. Probes begin at once."""
    (worker,) = unpd.workers()
    with socket_of(worker, sock.getsockname()) as copy:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            copy.setsockopt(socket.IPPROTO_TCP, option, 1)
    net.cut()


HOST_LOSSES = (
    (vanishes, EndCause.PEER_VANISHED),
    (is_unreachable, EndCause.UNREACHABLE),
    (answers_no_probe, EndCause.KEEPALIVE),
)


@pytest.mark.slow
@requires_namespaces()
@pytest.mark.parametrize(("happens", "cause"), HOST_LOSSES)
def test_each_way_to_lose_a_host_is_seen_under_its_name(
    launch: Launch, happens: Callable[[Unpd, Network, socket.socket], None], cause: EndCause
) -> None:
    """TCP gives up on sent bytes, on probes, or because of what the network reports."""
    text = (
        '[pools.default]\nworkers = 1\n[services.echo]\nlisten = ["tcp://10.99.0.1:0"]\n'
        "user_timeout_s = 1\n"
    )
    with network() as net:
        unpd = launch(text, prefix=net.server.prefix)
        with net.server.entered():
            with net.client.entered():
                sock = clients.connect(unpd.address("echo"))
            with sock:
                sock.sendall(b"hi")
                assert clients.read_exactly(sock, 2) == b"hi"
                happens(unpd, net, sock)
                wait_active(unpd, 0, timeout_s=30.0)
            seen(unpd, [(cause, "echo")])


def test_a_client_provokes_each_cause_that_there_is() -> None:
    """In one of the tests above: a new cause needs a client, too."""
    of_services = [cause for cause, _ in (*QUICK_ENDS, *SLOW_ENDS)]
    of_hosts = [cause for _, cause in HOST_LOSSES]
    assert sorted([*of_services, *of_hosts]) == sorted(EndCause)


# --- the list as the master makes it --------------------------------------------------


class Scene:
    """A master with one service, and children whose rings the test writes."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.words = service_cells(runtime.columns.services.column("echo"))
        self.pair = socket.socketpair()
        self.began_at = now()

    def child(self, birth: int) -> EndedRing:
        """A child that lives."""
        ring = EndedRing()
        child = Child(birth, Slot(ChildKind.WORKER, "default", birth), 1, ChildPhase.READY, 0.0)
        # The list needs no more of a child than its ring.
        process = ChildProcess(child, 4711, None, birth, None, ended=ring)  # type: ignore[arg-type]
        self.runtime.processes[birth] = process
        return ring

    def end(self, at: float, **known: Any) -> RecentEnd:
        """An end of the last seconds before the scene: number ``at``, a thousandth of a
        second behind the one before. A machine may have started a minute ago.
        """
        peer = (
            socket.AF_INET.to_bytes(2, "little") + b"\0\7" + bytes(known.get("host", (10, 0, 0, 1)))
        )
        ended_at = self.began_at - 5.0 + at / 1000
        return RecentEnd(
            self.words, peer, EndCause.DONE, ended_at, 2.0, int(at), 0, known.get("path")
        )

    def write(self, ring: EndedRing, *ends: RecentEnd) -> None:
        """The child writes some."""
        recent = recent_ends()
        recent.extend(ends)
        ring.write(recent)

    def page(self, after: str | None = None, **words: Any) -> dict[str, Any]:
        """The answer to a request."""
        arguments = {"service": None, "peer": None, "older": None, "after": after, **words}
        answer = ended.list_page(self.runtime, arguments)
        assert mismatch(answer, ENDED_PAGE) == ""
        return answer

    def all(self, **words: Any) -> list[int]:
        """The numbers of all that are listed, over all pages."""
        found: list[int] = []
        after = None
        while True:
            page = self.page(after, **words)
            found += [one["received"] for one in page["ended"]]
            after = page["next"]
            if after is None:
                return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A master without children."""
    text = 'metrics.listen = false\n[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
    with running(text, Log(MemorySink().sink, "info", "text")) as runtime:
        made = Scene(runtime)
        yield made
        runtime.processes.clear()
        for sock in made.pair:
            sock.close()


def test_the_ends_of_all_children_come_in_the_order_of_time(scene: Scene) -> None:
    """The latest first, those of the dead and of sessions without a dispatcher, too."""
    first, second = scene.child(1), scene.child(2)
    scene.write(first, scene.end(1), scene.end(4))
    scene.write(second, scene.end(2), scene.end(5, path=PathQuality(0.02, 3)))
    ended.keep(scene.runtime, second)
    del scene.runtime.processes[2]
    scene.runtime.lanes.ended.append(scene.end(3))
    assert scene.all() == [5, 4, 3, 2, 1]
    one, *_ = scene.page()["ended"]
    assert (one["rtt_s"], one["retransmits"], one["duration_s"]) == (0.02, 3, 2.0)
    wall_s = datetime.fromisoformat(one["ended_at"]).timestamp()
    assert abs(time.time() - wall_s) < 60


def test_many_ends_come_in_pages(scene: Scene) -> None:
    """Each once, also those of one moment, and no more than the list may have."""
    for birth in (1, 2, 3):
        scene.write(scene.child(birth), *(scene.end(number) for number in range(birth, 1801, 3)))
    found = scene.all()
    assert found == list(range(1800, 1800 - MOST_ENDED, -1))
    assert len(scene.page()["ended"]) == ended.PAGE
    ring = scene.child(4)
    at = scene.end(4000)
    scene.write(ring, *(at for _ in range(300)))
    page = scene.page()
    assert [one["received"] for one in page["ended"]] == [4000] * ended.PAGE
    second = scene.page(page["next"])["ended"]
    assert [one["received"] for one in second[:101]] == [4000] * 100 + [1800]
    assert len(scene.all()) == MOST_ENDED
    assert scene.all().count(4000) == 300


def test_filters_choose_among_the_last(scene: Scene) -> None:
    """By service, client, and how long a connection lasted."""
    scene.write(scene.child(1), scene.end(1), scene.end(2, host=(192, 0, 2, 7)))
    assert scene.all(service="echo") == [2, 1]
    assert scene.all(peer="192.0.2.0/24") == [2]
    assert scene.all(older="2s") == [2, 1]
    assert scene.all(older="1h") == []


def test_the_dead_leave_no_more_than_the_list_may_have(scene: Scene) -> None:
    """However many die."""
    for birth in range(1, 6):
        ring = scene.child(birth)
        scene.write(ring, *(scene.end(birth * 600 + number) for number in range(600)))
        ended.keep(scene.runtime, ring)
        del scene.runtime.processes[birth]
    assert scene.all() == list(range(3599, 3599 - MOST_ENDED, -1))


FORGED = [
    (Ended.CAUSE, 99),
    (Ended.RECEIVED, 2**63),
    (Ended.DURATION_NS, 2**64 - 1),
    (Ended.ENDED_NS, 2**62 - 1),
]


@pytest.mark.parametrize(("word", "value"), FORGED)
def test_a_dead_forger_displaces_no_other_end(scene: Scene, word: int, value: int) -> None:
    """A child that filled its ring with entries that no honest child writes: those of
    others that die later are kept.
    """
    forger = scene.child(1)
    scene.write(forger, *(scene.end(number) for number in range(MOST_ENDED)))
    for number in range(MOST_ENDED):
        forger.words[Ring.ENTRIES + number * Ended.size + word] = value
    honest = scene.child(2)
    scene.write(honest, scene.end(1), scene.end(2))
    for birth, ring in ((1, forger), (2, honest)):
        ended.keep(scene.runtime, ring)
        del scene.runtime.processes[birth]
    assert scene.all() == [2, 1]


@pytest.mark.parametrize(("word", "value"), [(Ended.WORDS, 5), *FORGED])
def test_a_forged_entry_is_not_listed(scene: Scene, word: int, value: int) -> None:
    """The others of that child are."""
    ring = scene.child(1)
    scene.write(ring, scene.end(1), scene.end(2))
    ring.words[Ring.ENTRIES + Ended.size + word] = value
    assert scene.all() == [1]


def test_a_forged_peer_is_shown_as_unknown(scene: Scene) -> None:
    """And belongs to no network."""
    ring = scene.child(1)
    scene.write(ring, scene.end(1))
    ring.words[Ring.ENTRIES + Ended.PEER] = 2**64 - 1
    assert [one["peer"] for one in scene.page()["ended"]] == ["unknown"]
    assert scene.all(peer="0.0.0.0/0") == []


def test_each_sort_key_has_its_function() -> None:
    """And no other."""
    assert tuple(_KEYS) == SORT_KEYS
