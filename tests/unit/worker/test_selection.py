"""Which connections belong to a selection."""

import pytest

from unpd.access.network import Network
from unpd.access.proxy_header import Endpoint
from unpd.worker.selection import Selection

V4 = Endpoint(4, 0xC0000207, 4711).sockaddr  # 192.0.2.7
V6 = Endpoint(6, 0x20010DB8 << 96 | 7, 4711).sockaddr
UNIX = Endpoint(0).sockaddr


@pytest.mark.parametrize(
    ("selection", "peers"),
    [
        (Selection(), [V4, V6, UNIX]),
        (Selection(service="echo"), [V4, V6, UNIX]),
        (Selection(service="daytime"), []),
        (Selection(network=Network.parse("192.0.2.0/24")), [V4]),
        (Selection(network=Network.parse("2001:db8::/32")), [V6]),
        (Selection(network=Network.parse("198.51.100.0/24")), []),
        (Selection(older_s=10.0), [V4, V6, UNIX]),
        (Selection(older_s=10.1), []),
        (Selection("echo", Network.parse("192.0.2.7"), 10.0), [V4]),
    ],
)
def test_every_part_of_a_selection_must_hold(selection: Selection, peers: list[bytes]) -> None:
    """And a question carries it whole."""
    assert Selection.of_message(selection.message) == selection
    assert [peer for peer in (V4, V6, UNIX) if selection.takes("echo", peer, 10.0)] == peers


def test_a_question_may_leave_all_out() -> None:
    """Then every connection is meant."""
    assert Selection.of_message({"question": "connections"}) == Selection()
