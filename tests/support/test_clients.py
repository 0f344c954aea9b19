"""The clients: what they wait for."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.threads import beside


def test_a_client_waits_for_room_in_the_queue_of_a_unix_socket(tmp_path: Path) -> None:
    """As it does with TCP, where the kernel sends its SYN again; but not for ever."""
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)  # room for one
        stack.enter_context(clients.connect(path))
        with pytest.raises(BlockingIOError):
            clients.connect(path, timeout_s=0.05)
        connected = threading.Event()

        def connect() -> None:
            stack.enter_context(clients.connect(path))
            connected.set()

        with beside(connect):
            assert not connected.wait(0.1)
            stack.enter_context(listener.accept()[0])
            assert connected.wait(10.0)
