"""Banners: the texts that clients get at the beginning of a connection, or when they
are refused. Whatever a client does with one, it keeps nobody waiting.
"""

import contextlib
import socket

import pytest

from tests.support import clients
from tests.support.clients import Address
from tests.support.counts import service_counts, wait_ended
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.sessions import greet

MODELS = ["event", "fork", "iterative"]
HOME, OTHER = "127.0.0.1", "127.0.0.9"
WELCOME, GO_AWAY = b"220 welcome\r\n", b"421 go away\r\n"
LONGEST = 4096
"""The greatest length of a banner."""
SMALLEST_SEGMENT = 88
"""The least that Linux lets a client ask for (TCP_MIN_MSS): so the send buffer of the
daemon has room for a part of a banner only.
"""


def said(address: Address, source: str = HOME) -> bytes:
    """All that a client gets that sends a byte, and its FIN."""
    got = b""
    with clients.connect(address, source=source) as sock:
        with contextlib.suppress(OSError):  # it may be turned away already
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(LONGEST):
                got += piece
    return got


@pytest.mark.parametrize("model", MODELS)
def test_a_service_begins_with_its_banner(launch: Launch, model: str) -> None:
    """It comes before the first word of a built-in service, whether the client or the
    service speaks first, and counts as sent. Who is refused gets the other one.
    """
    banners = (
        f'listen = ["tcp://0.0.0.0:0"]\nmodel = "{model}"\ndeny = ["{OTHER}"]\n'
        'banner_accepted = "220 welcome\\r\\n"\nbanner_refused = "421 go away\\r\\n"\n'
    )
    unpd = launch(
        f'[services.echo]\n{banners}[services.daytime]\nformat = "iso8601"\n{banners}'
        f"[services.discard]\n{banners}[services.chargen]\n{banners}"
    )
    with clients.connect((HOME, unpd.port("echo"))) as sock:
        assert clients.read_exactly(sock, len(WELCOME)) == WELCOME
        greet(sock)
    daytime = said((HOME, unpd.port("daytime")))
    assert daytime.startswith(WELCOME)
    assert daytime.endswith(b"+00:00\r\n")
    assert said((HOME, unpd.port("discard"))) == WELCOME
    with clients.connect((HOME, unpd.port("chargen"))) as sock:
        assert clients.read_exactly(sock, len(WELCOME) + 4) == WELCOME + b' !"#'
    assert wait_ended(unpd, {"client_fin": 1}).sent == len(WELCOME) + 1
    for name in ("echo", "daytime", "discard", "chargen"):
        assert said((HOME, unpd.port(name)), OTHER) == GO_AWAY
        unpd.metric_becomes(1, "unpd_refused_total", service=name, reason="deny")


def crammed() -> socket.socket:
    """A listener whose connections have the smallest send buffer, as
    ``SendBuffer=1`` in a socket unit makes one.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.bind((HOME, 0))
    sock.listen()
    return sock


def stuck(address: Address, source: str) -> socket.socket:
    """A client that has the smallest window, and reads nothing yet: a banner of the
    greatest length fits into no buffer on its way.
    """
    sock = socket.socket()
    sock.settimeout(10.0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALLEST_SEGMENT)
    sock.bind((source, 0))
    sock.connect(address)
    return sock


def start(launch: Launch, systemd: FakeSystemd, model: str, *lines: str) -> tuple[Unpd, Address]:
    """An echo service of one process whose banners have the greatest length, and whose
    send buffers have not room for it.
    """
    address = systemd.listen("echo", crammed())
    head = f'[services.echo]\nlisten = ["systemd:echo"]\nmodel = "{model}"\n'
    text = "\n".join((f"{head}[pools.default]\nworkers = 1\n[defaults]", *lines))
    return systemd.start(launch, text), address


@pytest.mark.parametrize("model", MODELS)
def test_a_refused_client_that_reads_nothing_holds_up_nobody(
    launch: Launch, systemd: FakeSystemd, model: str
) -> None:
    """It gets as much of its banner as the kernel takes, and no process waits for more:
    others are served at once.
    """
    unpd, address = start(
        launch, systemd, model, f'deny = ["{OTHER}"]', f'banner_refused = "{"a" * LONGEST}"'
    )
    with contextlib.ExitStack() as stack:
        late = [stack.enter_context(stuck(address, OTHER)) for _ in range(5)]
        assert said(address) == b"x"
        unpd.metric_becomes(5, "unpd_refused_total", service="echo", reason="deny")
        for sock in late:
            assert 0 < len(clients.read_all(sock)) < LONGEST


@pytest.mark.parametrize("model", ["event", pytest.param("fork", marks=pytest.mark.slow)])
def test_a_client_that_does_not_read_its_banner_holds_up_nobody(
    launch: Launch, systemd: FakeSystemd, model: str
) -> None:
    """Others are served meanwhile; and it gets the whole banner as soon as it reads,
    then its answer. There are twenty: to wait for one takes seconds, until the probes
    of the kernel have brought it the rest.
    """
    text = "a" * LONGEST
    unpd, address = start(launch, systemd, model, f'banner_accepted = "{text}"')
    with contextlib.ExitStack() as stack:
        late = [stack.enter_context(stuck(address, OTHER)) for _ in range(20)]
        assert said(address) == text.encode() + b"x"
        unpd.metric_becomes(20, "unpd_connections_active", service="echo")
        late[0].sendall(b"y")
        assert clients.read_exactly(late[0], LONGEST + 1) == text.encode() + b"y"


@pytest.mark.slow
def test_an_iterative_service_waits_for_no_reader_of_its_banner(
    launch: Launch, systemd: FakeSystemd
) -> None:
    """Its one client may keep it until a deadline of the service, and no longer; then
    the next one is served. (The probes of the kernel may bring it the whole banner:
    then it is idle.)
    """
    text = "a" * LONGEST
    keys = (f'banner_accepted = "{text}"', "user_timeout_s = 0.5", "idle_timeout_s = 2")
    unpd, address = start(launch, systemd, "iterative", *keys)
    with stuck(address, OTHER):
        assert said(address) == text.encode() + b"x"
        assert sum(service_counts(unpd).ended.values()) >= 1
