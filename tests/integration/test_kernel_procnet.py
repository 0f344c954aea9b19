"""Whether a listener is still open somewhere."""

import os
import socket

import pytest

from tests.support.clients import connect
from unpd.kernel.procnet import is_open


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_open_until_its_last_descriptor_is_closed(host: str) -> None:
    """Another descriptor keeps a listener open. A connection is no listener."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        with connect(listener.getsockname()[:2]) as client:
            assert not is_open(os.fstat(client.fileno()).st_ino)
        kept = listener.dup()
    assert is_open(inode)
    kept.close()
    assert not is_open(inode)
