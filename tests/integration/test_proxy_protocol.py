"""Load balancers in front of a daemon, in every model: the client that they tell is the
one for rules, live denials and the log. The last tests have a real HAProxy.

Engines and dispatchers without a daemon: test_arrivals.py, test_dispatcher_arrivals.py.
"""

import contextlib
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from signal import SIGQUIT, SIGTERM, Signals

import pytest

from tests.integration.test_arrivals import LOCAL, SIGNATURE, header
from tests.support import clients, procs
from tests.support.access import MODELS, OTHER, echo, refused
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.faults import find_tool, requires_tool
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.sessions import greet
from tests.support.waiting import until

HOME, PROXY = "127.0.0.1", "127.0.0.2"
BALANCED = f'proxy_protocol = ["{PROXY}"]'
TOLD = "192.0.2.7:51234"
"""The client of :func:`header`."""


def tell(unpd: Unpd, data: bytes, source: str = PROXY) -> socket.socket:
    """Connect as a load balancer, and send."""
    sock = clients.connect((HOME, unpd.port("echo")), source=source)
    with contextlib.suppress(OSError):
        sock.sendall(data)
    return sock


def headers_become(unpd: Unpd, count: int, result: str) -> None:
    """Wait until so many headers had a result."""
    unpd.metric_becomes(count, "unpd_proxy_headers_total", service="echo", result=result)


@pytest.mark.parametrize("model", MODELS)
def test_rules_and_the_log_are_about_the_client(launch: Launch, model: str) -> None:
    """Whatever process serves it. From anyone else a header is data, so that nobody
    else can come in by one.
    """
    lines = (BALANCED, 'allow = ["192.0.2.0/24"]', "[log]\nconnections = true")
    unpd = launch(echo(*lines, model=model, workers=1))
    with tell(unpd, header() + b"x") as sock:
        assert clients.read_exactly(sock, 1) == b"x"
        assert unpd.wait_event("connection.started").fields["peer"] == TOLD
        wait_active(unpd, 1)
        if model == "fork":
            (session,) = unpd.sessions()
            assert procs.title(session) == f"unpd: session echo {TOLD}"
    assert unpd.wait_event("connection.ended").fields["peer"] == TOLD
    assert refused(tell(unpd, header("198.51.100.7") + b"x")) == b""
    assert refused(tell(unpd, header() + b"x", OTHER)) == b""
    for peer in ("198.51.100.7", OTHER):
        assert unpd.wait_event("connection.refused", peer=peer).fields["reason"] == "allow"
    headers_become(unpd, 2, "told")


@pytest.mark.parametrize("model", ["event", "fork"])
def test_a_live_denial_is_of_the_client(launch: Launch, model: str) -> None:
    """It ends its connections and keeps it out; that of the load balancer's own address
    shuts everybody behind it out.
    """
    unpd = launch(echo(BALANCED, model=model, workers=1))

    def deny(network: str) -> None:
        ended = unpd.run("deny", network, "--kick", "--control", str(unpd.control))
        assert ended.returncode == 0, ended.stderr

    def comes_in(client: str) -> bool:
        with tell(unpd, header(client) + b"x") as sock:
            try:
                return clients.read_exactly(sock, 1) == b"x"
            except ConnectionResetError:
                return False

    with tell(unpd, header()) as sock:
        greet(sock)
        deny("192.0.2.0/24")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    until(lambda: not comes_in("192.0.2.8"), 10.0, "the denial to hold")
    assert comes_in("198.51.100.7")
    deny(PROXY)
    until(lambda: not comes_in("198.51.100.7"), 10.0, "the other denial to hold")
    unpd.wait_event("connection.refused", reason="denied", peer=PROXY)


def test_a_sensor_denies_the_client(launch: Launch) -> None:
    """And no load balancer that looks whether it is there."""
    trap = '[services.trap]\ntype = "sensor"\nlisten = ["tcp://0.0.0.0:0"]\n'
    unpd = launch(f"{echo(BALANCED)}\n{trap}{BALANCED}\n[access]\nnever_deny = []\n")
    for data in (LOCAL, header()):
        sock = clients.connect((HOME, unpd.port("trap")), source=PROXY)
        sock.sendall(data)
        with sock:
            assert clients.read_all(sock) == b""
    assert unpd.wait_event("denial.sensed").fields["network"] == "192.0.2.7"
    assert len(unpd.log_events("denial.sensed")) == 1
    with tell(unpd, header("192.0.2.8")) as sock:
        greet(sock)


def test_a_load_balancer_on_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    """It may be known by its user. That is not the user of the client that it tells."""
    path = tmp_path / "echo.sock"
    text = f'[services.echo]\nlisten = ["unix://{path}"]\nproxy_protocol = ["uid:{{}}"]\n'
    text += "[log]\nconnections = true\n"
    unpd = launch(text.format(tmp_path.stat().st_uid))
    with clients.connect(str(path)) as sock:
        sock.sendall(header("2001:db8::7") + b"x")
        assert clients.read_exactly(sock, 1) == b"x"
        assert unpd.wait_event("connection.started").fields["peer"] == "[2001:db8::7]:51234"
    with clients.connect(str(path)) as sock:
        sock.sendall(SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + bytes(216) + b"x")
        assert clients.read_exactly(sock, 1) == b"x"
        unpd.wait_event("connection.started", peer="unix")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_late_header_ends_the_connection(launch: Launch, model: str) -> None:
    """After five seconds. In the iterative model alone it held up the next client."""
    unpd = launch(echo(BALANCED, model=model, workers=1))
    with tell(unpd, header()[:20]) as late, tell(unpd, header()) as other:
        if model == "iterative":
            assert refused(late) == b""
            greet(other)
        else:
            greet(other)
            assert refused(late) == b""
    line = unpd.wait_event("connection.no_header")
    assert (line.fields["peer"], line.fields["reason"]) == (PROXY, "late")
    headers_become(unpd, 1, "late")


@pytest.mark.parametrize("model", ["event", "fork"])
def test_a_reload_waits_for_headers(launch: Launch, model: str) -> None:
    """The retired process serves a client whose header comes after the order."""
    unpd = launch(echo(BALANCED, model=model, workers=1))
    with tell(unpd, header()[:20]) as sock:
        until(lambda: is_accepted(sock), 10.0, "the accept")
        reload(unpd, every_pool=True)
        sock.sendall(header()[20:])
        greet(sock)


@pytest.mark.parametrize(
    ("model", "number"), [("event", SIGTERM), ("fork", SIGTERM), ("fork", SIGQUIT)]
)
def test_a_stop_ends_the_connections_that_wait(launch: Launch, model: str, number: Signals) -> None:
    """In its time, and nothing is left of them."""
    unpd = launch(echo(BALANCED, model=model, workers=1))
    with tell(unpd, header()[:20]) as sock:
        until(lambda: is_accepted(sock), 10.0, "the accept")
        unpd.stop(number)
        assert refused(sock) == b""


def is_accepted(client: socket.socket) -> bool:
    """Whether a process has the other end of a TCP connection: before, the kernel shows
    it without an inode (proc(5), /proc/net/tcp).
    """
    ports = [f":{client.getpeername()[1]:04X}", f":{client.getsockname()[1]:04X}"]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any([row[1][-5:], row[2][-5:]] == ports and row[9] != "0" for row in rows)


def test_explain_says_who_is_a_load_balancer(launch: Launch) -> None:
    """Then the answer is about its own connections."""
    unpd = launch(echo(BALANCED, 'allow = ["192.0.2.0/24"]'))

    def explained(peer: str, *options: str) -> str:
        ended = unpd.run("explain", peer, "echo", *options, "--control", str(unpd.control))
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode()

    assert json.loads(explained(PROXY, "--json"))["proxy"] == PROXY
    assert json.loads(explained("192.0.2.7", "--json"))["proxy"] is None
    first, second, *_ = explained(PROXY).splitlines()
    assert first == f"{PROXY} may not use echo now"
    assert second.startswith(f"  by proxy_protocol, {PROXY} is a load balancer")
    assert "proxy_protocol" not in explained("192.0.2.7")


# --- a real load balancer -------------------------------------------------------------


@contextlib.contextmanager
def haproxy(directory: Path, server: str) -> Iterator[tuple[str, int]]:
    """Run HAProxy before a server, which it also checks; give its address."""
    with socket.create_server((HOME, 0)) as listener:
        config = directory / "haproxy.cfg"
        config.write_text(
            "global\n    maxconn 100\ndefaults\n    mode tcp\n"
            "    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
            f"listen unpd\n    bind fd@{listener.fileno()}\n"
            f"    server unpd {server} source {PROXY} check inter 500ms\n"
        )
        program = find_tool("haproxy")
        assert program is not None
        running = subprocess.Popen(
            [program, "-db", "-f", str(config)],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield listener.getsockname()
        finally:
            running.terminate()
            running.wait(10.0)


@requires_tool("haproxy")
@pytest.mark.parametrize(
    ("send", "model"),
    [
        ("send-proxy", "event"),
        ("send-proxy-v2", "fork"),
        ("send-proxy-v2 proxy-v2-options crc32c", "event"),
    ],
)
def test_haproxy_in_front(launch: Launch, tmp_path: Path, send: str, model: str) -> None:
    """Rules and live denials see the real client through it. Its health checks are
    connections of its own, and change nothing.
    """
    lines = (BALANCED, f'allow = ["{PROXY}", "127.0.0.4/30"]', "[log]\nconnections = true")
    unpd = launch(echo(*lines, model=model, workers=1))
    inside, outside = "127.0.0.5", OTHER

    def answer(source: str) -> bytes:
        with clients.connect(front, source=source) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(b"x")
                return clients.read_exactly(sock, 1)
            return b""

    with haproxy(tmp_path, f"{HOME}:{unpd.port('echo')} {send}") as front:
        assert answer(inside) == b"x"
        assert inside in served_hosts(unpd)
        assert answer(outside) == b""
        assert unpd.wait_event("connection.refused", peer=outside).fields["reason"] == "allow"
        # In version 1, HAProxy tells its own address in a health check.
        until(lambda: PROXY in served_hosts(unpd), 10.0, "a health check")
        ended = unpd.run("deny", inside, "--control", str(unpd.control))
        assert ended.returncode == 0, ended.stderr
        until(lambda: answer(inside) == b"", 10.0, "the denial to hold")
        assert unpd.wait_event("connection.refused", peer=inside).fields["reason"] == "denied"
    assert unpd.log_events("connection.no_header") == []


def served_hosts(unpd: Unpd) -> set[str]:
    """The hosts of the clients that were let in."""
    peers = (line.fields["peer"] for line in unpd.log_events("connection.started"))
    return {peer.rpartition(":")[0] for peer in peers}
