"""The names of listeners in the descriptor store."""

import pytest

from unpd.config.addresses import parse_address
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import STORED_PREFIX, WantedListener

OPTIONS = ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666)
LONGEST_NAME = 255
"""The length that FDNAME= may have (sd_pid_notify_with_fds(3))."""
LONGEST_INODE = 20


def wanted(key: str) -> WantedListener:
    """A wanted listener with that key."""
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
    """The keys of a UNIX path of 107 bytes (unix(7)) and of a free port with a service
    name of 32 letters have names of a length that systemd takes, without a colon.
    """
    name = f"{STORED_PREFIX}{wanted(key).stored_key}-{LONGEST_INODE * '9'}"
    assert len(name) <= LONGEST_NAME
    assert name.isascii()
    assert ":" not in name


def test_different_keys_have_different_names() -> None:
    """No part of a key is cut off or hashed in its name."""
    assert wanted("tcp://127.0.0.1:7").stored_key != wanted("tcp://127.0.0.1:70").stored_key
