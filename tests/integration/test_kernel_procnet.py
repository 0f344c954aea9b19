"""Whether a listener or a UDP socket is still open somewhere."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.support.clients import connect
from unpd.kernel.procnet import is_open, listen_losses


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_open_until_its_last_descriptor_is_closed(host: str) -> None:
    """Another descriptor keeps a listener open. A connection is no listener."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        with connect(listener.getsockname()[:2]) as client:
            assert not is_open(os.fstat(client.fileno()).st_ino, "tcp")
        kept = listener.dup()
    assert is_open(inode, "tcp")
    kept.close()
    assert not is_open(inode, "tcp")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_udp_socket_is_open_until_its_last_descriptor_is_closed(host: str) -> None:
    """The same for a UDP socket, behind others in the kernel's list."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(3)]
        for sock in socks:
            sock.bind((host, 0))
        inodes = [os.fstat(sock.fileno()).st_ino for sock in socks]
        assert [is_open(inode, "udp") for inode in inodes] == [True, True, True]
        assert not is_open(inodes[0], "tcp")
        kept = socks[1].dup()
    assert is_open(inodes[1], "udp")
    kept.close()
    assert [is_open(inode, "udp") for inode in inodes] == [False, False, False]


def test_the_losses_of_listeners_are_read(tmp_path: Path) -> None:
    """ListenOverflows and ListenDrops, wherever they stand; None without them."""
    path = tmp_path / "netstat"
    path.write_text(
        "TcpExt: SyncookiesSent ListenOverflows Other ListenDrops\nTcpExt: 1 22 3 44\n"
        "IpExt: InNoRoutes\nIpExt: 5\n"
    )
    assert listen_losses(path) == (22, 44)
    for text in ("", "TcpExt: Other\nTcpExt: 1\n", "TcpExt: ListenOverflows\nTcpExt: x\n"):
        path.write_text(text)
        assert listen_losses(path) is None
    assert listen_losses(tmp_path / "none") is None
    here = listen_losses()
    assert here is not None
    assert here[1] >= here[0] >= 0
