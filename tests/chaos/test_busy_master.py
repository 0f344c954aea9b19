"""The master while many ask for much: no turn of its loop lasts long."""

import contextlib
import json
import socket
import struct

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import read_answer, send_request, status
from tests.support.scale import many
from tests.support.waiting import until

TEN_SECONDS = struct.pack("@ll", 10, 0)
"""How long connect(2) waits for room in the queue of the control socket. A timeout of
Python would not wait: unix(7) has EAGAIN for a socket that does not block.
"""
LAG = "unpd_loop_lag_seconds"
LONG = "0.5"
"""A bound of the histogram: much more than 20 ms, because other processes run too."""


def long_turns(unpd: Unpd, le: str = LONG) -> float:
    """How many turns of the master's loop were longer than the bound."""
    page = unpd.metrics()
    short = total(page, f"{LAG}_bucket", kind="master", le=le)
    return total(page, f"{LAG}_count", kind="master") - short


@pytest.mark.slow
def test_a_list_of_thousands_of_connections_comes_in_short_turns(launch: Launch) -> None:
    """10,000 connections (fewer in the default run) in 16 workers are listed while the
    master does its work.
    """
    count = many(10_000, at_least=2000)
    unpd = launch(
        "[pools.default]\nworkers = 16\n"
        f'[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nmax_connections = {count}\n'
    )
    with clients.idle(unpd.address("echo"), count):
        wait_active(unpd, count, timeout_s=60.0)
        before = long_turns(unpd)
        done = unpd.run("connections", "--json", "--control", str(unpd.control), timeout_s=120.0)
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(json.loads(done.stdout)["connections"]) == count
        assert long_turns(unpd) == before


def test_a_thousand_control_clients_hold_nobody_up(launch: Launch) -> None:
    """The daemon keeps as many as it has room for, and closes the others. It serves
    meanwhile, and answers when they have gone.
    """
    unpd = launch('[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n')
    before = long_turns(unpd)
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TEN_SECONDS)
            sock.connect(str(unpd.control))
        assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    until(lambda: status(unpd)["ready"], 10.0, "an answer about the state")
    assert long_turns(unpd) == before


SERVICES = 64
ASKERS = 24
ROUNDS = 6


@pytest.mark.slow
def test_many_that_ask_at_once_are_answered_in_short_turns(launch: Launch) -> None:
    """Two dozen commands ask for all that a daemon of 16 workers and 64 services has,
    again and again. A turn of the loop answers one of them, by counts that they share.
    """
    unpd = launch(
        "[pools.default]\nworkers = 16\n"
        + "".join(
            f'[services.echo{number}]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:0"]\n'
            for number in range(SERVICES)
        )
    )
    with contextlib.ExitStack() as stack:
        for number in range(SERVICES):
            stack.enter_context(clients.idle(unpd.address(f"echo{number}"), 4))
        active = SERVICES * 4
        until(lambda: unpd.total("unpd_connections_active") == active, 60.0, "all connections")
        before = long_turns(unpd, le="0.1")
        verbs = ("status", "workers", "listeners")
        for turn in range(ROUNDS):
            asked = [
                send_request(unpd.control, verb=verbs[(turn + number) % len(verbs)])
                for number in range(ASKERS)
            ]
            for sock in asked:
                with contextlib.closing(sock):
                    assert read_answer(sock)["ok"] is True
        # Another process may take the processor away once or twice.
        assert long_turns(unpd, le="0.1") - before < ROUNDS / 2
