"""A listener's name in the descriptor store."""

import pytest

from unpd.config.addresses import parse_address
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import STORED_PREFIX, WantedListener

OPTIONS = ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666)
LONGEST_NAME = 255
"""Of FDNAME= (sd_pid_notify_with_fds(3))."""
LONGEST_INODE = 20


def wanted(key: str) -> WantedListener:
    """A wish of that key."""
    return WantedListener(key, "echo", parse_address("tcp://127.0.0.1:7"), OPTIONS)


@pytest.mark.parametrize(
    "key",
    [
        "unix:/" + 106 * "a",
        "unix:/" + 53 * "é",
        f"{32 * 's'}#15 tcp://[fe80::ffff:ffff:ffff:ffff%abcdefghijklmno]:0",
    ],
)
def test_the_longest_key_has_a_name(key: str) -> None:
    """A UNIX socket's path of 107 bytes (unix(7)), a service with a name of 32 letters
    that asks for a free port: with the inode they stay within what systemd takes, and
    have no colon.
    """
    name = f"{STORED_PREFIX}{wanted(key).stored_key}-{LONGEST_INODE * '9'}"
    assert len(name) <= LONGEST_NAME
    assert name.isascii()
    assert ":" not in name


def test_different_keys_have_different_names() -> None:
    """Nothing is cut off or hashed away."""
    assert wanted("tcp://127.0.0.1:7").stored_key != wanted("tcp://127.0.0.1:70").stored_key
