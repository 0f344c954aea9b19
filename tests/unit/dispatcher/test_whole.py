"""A socket that programs get whole: when the next one may have it."""

import math
import socket
from collections import Counter
from collections.abc import Iterator
from typing import cast

import pytest

from unpd.board import layout
from unpd.board.layout import Session
from unpd.board.sessions import SessionTable
from unpd.dispatcher.whole import LOOK_S, WholeSocket
from unpd.worker.accepting import ListenerSetup
from unpd.worker.terms import Terms

COLUMN = 2
WORD = layout.Row.LISTENER_ACCEPTED + COLUMN


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.mark.parametrize("ended_here", [False, True])
def test_a_program_of_an_earlier_launcher_has_it(sock: socket.socket, ended_here: bool) -> None:
    """The next one waits for its end, also after the end of one of this launcher."""
    table, running = SessionTable(1), Counter[int]()
    whole = WholeSocket(
        ListenerSetup("", sock, 1, COLUMN), cast("Terms", None), running, 0, [table]
    )
    table.begin(0, service=1, accepted_ns=1, peer=b"")
    table.entry(0)[Session.LISTENER] = WORD
    if ended_here:
        running[WORD] = 1
        whole.resume(1.0)
        assert whole.resume_at == math.inf
        running[WORD] = 0
    whole.resume(2.0)
    assert whole.resume_at == 2.0 + LOOK_S
    table.clear(0)
    whole.resume(2.0 + LOOK_S)
    assert whole.resume_at is None


def test_kept_programs_share_it_with_those_of_an_earlier_launcher(sock: socket.socket) -> None:
    """So somebody serves at each moment of a reload."""
    table = SessionTable(1)
    whole = WholeSocket(
        ListenerSetup("", sock, 1, COLUMN), cast("Terms", None), Counter(), 2, [table]
    )
    table.begin(0, service=1, accepted_ns=1, peer=b"")
    table.entry(0)[Session.LISTENER] = WORD
    whole.resume(2.0)
    assert whole.resume_at is None
