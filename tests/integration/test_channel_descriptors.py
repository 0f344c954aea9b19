"""A descriptor that goes with a message: it arrives with its message, and never waits,
leaks or fills a table.
"""

import array
import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from unpd.channel import ChannelEnd, ChannelError, ChannelFullError


@dataclass(frozen=True, slots=True)
class Pair:
    """The two ends of a channel, and the sockets below them."""

    master: ChannelEnd
    child: ChannelEnd
    master_sock: socket.socket
    child_sock: socket.socket


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A channel, as a fork makes it. Afterwards as many descriptors are open as
    before.
    """
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    found = Pair(ChannelEnd(ours), ChannelEnd(theirs, takes_descriptors=True), ours, theirs)
    yield found
    found.master.close()
    found.child.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor of /dev/null."""
    fd = os.open(os.devnull, os.O_WRONLY)
    yield fd
    os.close(fd)


def rights(*fds: int) -> tuple[int, int, bytes]:
    """The ancillary data of some descriptors."""
    return (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())


def test_a_descriptor_arrives_with_its_message(pair: Pair, null: int) -> None:
    """It is a duplicate, closed on exec, and taken once; the messages around it bring
    none.
    """
    pair.master.send({"a": 1})
    pair.master.send({"log": 1}, null)
    pair.master.send({"b": 2})
    messages: list[dict[str, Any]] = []
    while len(messages) < 3:
        messages += pair.child.receive()
    assert messages == [{"a": 1}, {"log": 1}, {"b": 2}]
    found = pair.child.take_descriptor()
    assert found is not None
    assert os.path.samestat(os.fstat(found), os.fstat(null))
    assert not os.get_inheritable(found)
    assert pair.child.take_descriptor() is None
    os.close(found)


def test_a_descriptor_does_not_wait_behind_bytes(pair: Pair, null: int) -> None:
    """The message is refused whole, and the ones before it arrive whole."""
    line = {"a": "x" * 60_000}
    count = 0
    while not pair.master.pending:
        pair.master.send(line)
        count += 1
    with pytest.raises(ChannelFullError):
        pair.master.send({"log": 1}, null)
    came: list[dict[str, Any]] = []
    while len(came) < count:
        came += pair.child.receive()
        pair.master.flush()
    assert came == [line] * count
    assert pair.child.receive() == []


def test_a_descriptor_does_not_wait_for_room(pair: Pair, null: int) -> None:
    """A child that reads nothing costs the master no bytes that wait, and what is on
    its way is closed with the socket.
    """

    def fill() -> None:
        for _ in range(10_000):
            pair.master.send({"log": 1}, null)

    with pytest.raises(ChannelFullError):
        fill()
    assert not pair.master.pending
    assert pair.child.receive() == [{"log": 1}]


def test_a_closed_channel_loses_the_descriptor(pair: Pair, null: int) -> None:
    """The end shows itself, as for any other message."""
    pair.child.close()
    pair.master.send({"log": 1}, null)
    assert (pair.master.ended, pair.master.pending) == (True, False)


def test_two_descriptors_break_the_channel(pair: Pair, null: int) -> None:
    """In one message, or in a second one before the first was taken: neither is kept
    open.
    """
    pair.master_sock.sendmsg((b'{"log":1}\n',), (rights(null, null),))
    with pytest.raises(ChannelError, match="more than one"):
        pair.child.receive()
    assert pair.child.take_descriptor() is None
    pair.master.send({"log": 1}, null)
    pair.master.send({"log": 2}, null)
    assert pair.child.receive() == [{"log": 1}]
    with pytest.raises(ChannelError, match="more than one"):
        pair.child.receive()


def test_the_masters_end_takes_no_descriptor(pair: Pair, null: int) -> None:
    """A faulty child cannot fill the master's table: the kernel drops what it sends."""
    pair.child_sock.sendmsg((b'{"a":1}\n',), (rights(null),))
    before = os.listdir("/proc/self/fd")
    assert pair.master.receive() == [{"a": 1}]
    assert pair.master.take_descriptor() is None
    assert os.listdir("/proc/self/fd") == before


def test_a_full_table_loses_the_descriptor_and_keeps_the_message(pair: Pair, null: int) -> None:
    """A process without a free number reads on, and knows that none came."""
    pair.master.send({"log": 1}, null)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    filler = [os.dup(null) for _ in range(highest)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
        assert pair.child.receive() == [{"log": 1}]
        assert pair.child.take_descriptor() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filler:
            os.close(fd)
