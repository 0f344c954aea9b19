"""The log lines about single connections name the client, whatever its family."""

import errno
import json
import os
import socket
import struct

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.observed import Event, contradiction
from unpd.logs import Log
from unpd.names import EndCause
from unpd.worker.connection_lines import UNKNOWN, EndedConnection, log_end, log_start


def v4(host: str) -> bytes:
    """The first bytes of a sockaddr_in with port 4711 (ip(7))."""
    return struct.pack("=HH", socket.AF_INET, socket.htons(4711)) + socket.inet_aton(host)


def v6(host: str, scope: int = 0) -> bytes:
    """A sockaddr_in6 with port 4711 (ipv6(7))."""
    address = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(4711), 0, address, scope)


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        (b"", "none"),
        (v4("192.0.2.1"), "192.0.2.1:4711"),
        (v4("192.0.2.1").ljust(32, b"\0"), "192.0.2.1:4711"),
        (v6("2001:db8::1"), "[2001:db8::1]:4711"),
        (v6("::ffff:192.0.2.1"), "192.0.2.1:4711"),
        (v6("fe80::1", scope=2**31 - 1), "[fe80::1%2147483647]:4711"),
        (struct.pack("=H", socket.AF_UNIX), "unix"),
    ],
)
def test_both_lines_name_the_client(peer: bytes, shown: str) -> None:
    """By address and port, over TCP of either version. A UNIX client whose connection
    is closed has no name.
    """
    memory = MemorySink()
    log = Log(memory.sink, "info", "json", connections=True)
    log_start(log, "echo", peer, UNKNOWN)
    ended = EndedConnection(
        service="echo",
        peer=peer,
        fd=UNKNOWN,
        cause=EndCause.IDLE,
        duration_s=1.2345678,
        received=3,
        sent=4,
    )
    log_end(log, ended)
    started, closed = (json.loads(line) for line in memory.lines)
    assert (started["peer"], closed["peer"]) == (shown, shown)
    assert (closed["received"], closed["sent"], closed["duration_s"]) == (3, 4, 1.234568)
    for line in (started, closed):
        assert contradiction(Event(line.pop("event"), line.pop("level"), line)) == ""


@pytest.mark.parametrize(
    ("cause", "number", "shown"),
    [
        (EndCause.ERROR, errno.ENOBUFS, "ENOBUFS"),
        (EndCause.ERROR, 9999, "9999"),
        (EndCause.ERROR, 0, None),
        (EndCause.TARGET_LOST, errno.ECONNRESET, "ECONNRESET"),
        (EndCause.CLIENT_RST, errno.ECONNRESET, None),
    ],
)
def test_an_error_has_its_name(cause: EndCause, number: int, shown: str | None) -> None:
    """Where the cause does not tell it."""
    memory = MemorySink()
    log = Log(memory.sink, "info", "json", connections=True)
    peer = v4("192.0.2.7")
    ended = EndedConnection(
        service="echo", peer=peer, fd=UNKNOWN, cause=cause, duration_s=1.0, error=number
    )
    log_end(log, ended)
    (line,) = (json.loads(line) for line in memory.lines)
    assert line.get("error") == shown
    assert contradiction(Event(line.pop("event"), line.pop("level"), line)) == ""


def test_a_unix_client_is_its_user() -> None:
    """As in the lines about refusals, while the connection is open."""
    memory, peer = MemorySink(), struct.pack("=H", socket.AF_UNIX)
    log = Log(memory.sink, "info", "json", connections=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = ours.fileno()
        log_start(log, "echo", peer, fd)
        log_end(
            log,
            EndedConnection(service="echo", peer=peer, fd=fd, cause=EndCause.IDLE, duration_s=1.0),
        )
    assert [json.loads(line)["peer"] for line in memory.lines] == [f"uid:{os.geteuid()}"] * 2
