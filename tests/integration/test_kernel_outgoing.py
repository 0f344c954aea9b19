"""Connections that do not wait: how they begin, and how they turn out."""

import errno
import os
import select
import socket
from pathlib import Path

import pytest

from unpd.kernel.outgoing import ConnectOptions, begin_connect, numeric_address, outcome

OPTIONS = ConnectOptions(keepalive=True, user_timeout_s=7.0)
PATIENCE_S = 10.0


def settled(fd: int) -> int:
    """The outcome, once the descriptor says that there is one."""
    assert select.select([], [fd], [], PATIENCE_S)[1]
    return outcome(fd)


def test_a_connection_has_the_options_of_a_target() -> None:
    """No delay, probes, the user timeout; it does not block and is closed on exec."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = numeric_address(*server.getsockname())
        fd, _ = begin_connect(address, OPTIONS)
        assert settled(fd) == 0
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        with socket.socket(fileno=fd) as sock:
            tcp = socket.IPPROTO_TCP
            assert sock.getsockopt(tcp, socket.TCP_NODELAY)
            assert sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 7000
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)


def test_a_port_at_which_nothing_listens_refuses() -> None:
    """The outcome is the errno."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        fd, is_made = begin_connect(numeric_address(*bound.getsockname()), OPTIONS)
        assert not is_made
        assert settled(fd) == errno.ECONNREFUSED
        os.close(fd)


def test_a_connect_that_is_under_way_has_no_outcome_yet() -> None:
    """Nobody answers it, because the queue of the listener is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = numeric_address(*server.getsockname())
        made = [begin_connect(address, OPTIONS)[0] for _ in range(3)]
        assert settled(made[0]) == 0
        assert outcome(made[-1]) == errno.EINPROGRESS
        for fd in made:
            os.close(fd)


def test_a_unix_connection_is_made_at_once_or_not_at_all(tmp_path: Path) -> None:
    """A full queue is EAGAIN, a missing file ENOENT. No descriptor is left."""
    path = str(tmp_path / "target")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        begin_connect((socket.AF_UNIX, path), OPTIONS)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        with pytest.raises(ConnectionRefusedError):
            begin_connect((socket.AF_UNIX, path), OPTIONS)
        server.listen(0)
        fd, is_made = begin_connect((socket.AF_UNIX, path), OPTIONS)
        assert is_made
        with pytest.raises(BlockingIOError):
            begin_connect((socket.AF_UNIX, path), OPTIONS)
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_connection_with_itself_is_none() -> None:
    """TCP makes one if a socket connects to its own port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        assert outcome(sock.fileno()) == errno.ECONNREFUSED


def test_a_link_local_address_has_the_number_of_its_interface() -> None:
    """An interface that is missing is an error, a numeric host needs no look-up."""
    assert numeric_address("::1", 80) == (socket.AF_INET6, ("::1", 80, 0, 0))
    family, address = numeric_address("fe80::1%lo", 80)
    assert (family, address[3]) == (socket.AF_INET6, socket.if_nametoindex("lo"))
    with pytest.raises(OSError, match="not"):
        numeric_address("fe80::1%missing0", 80)
