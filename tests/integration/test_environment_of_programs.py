"""What a program is told about a client that a load balancer brought over a UNIX
socket: nothing of the balancer's own. And what a trial may not be.
"""

import os
import socket
from typing import Any, cast

import pytest

from unpd.access.proxy_header import Endpoint
from unpd.dispatcher.environment import of_connection
from unpd.dispatcher.trials import Trials

CLIENT = Endpoint(4, 0xCB007109, 5555).sockaddr


def test_an_internet_client_over_a_unix_socket() -> None:
    """Its address is known, and ours is not."""
    ours, _theirs = socket.socketpair()
    with ours, _theirs:
        told = of_connection(ours.fileno(), CLIENT, 1, tells_user=False)
    assert told["TCPREMOTEIP"] == told["REMOTE_HOST"] == "203.0.113.9"
    assert not {"SERVER_PORT", "TCPLOCALIP", "TCPLOCALPORT"} & told.keys()


def test_the_user_of_a_load_balancer_is_nobodys() -> None:
    """A program gets the user of a UNIX client only from the client itself."""
    ours, _theirs = socket.socketpair()
    with ours, _theirs:
        direct = of_connection(ours.fileno(), b"", 1, tells_user=True)
        told = of_connection(ours.fileno(), b"", 1, tells_user=False)
    assert "UNIXREMOTEUID" in direct
    assert told == {"PROTO": "UNIX", "UNIXCONNNUM": "1"}


def test_a_trial_needs_a_socket() -> None:
    """Another descriptor is closed, and refused in a sentence: the launcher goes on."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb"):
        answer = Trials(cast(Any, None), clock=float).begin(cast(Any, None), reader)
    assert answer == {"error": "what came is no socket: Socket operation on non-socket"}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
