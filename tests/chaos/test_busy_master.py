"""The master while many ask for much: no turn of its loop lasts long."""

import contextlib
import json

import pytest

from tests.support import clients, procs
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import VERSION, read_answer, status, wait_all_ready
from tests.support.turns import longer_than, turns_so_far
from tests.support.waiting import until

LONG_S, VERY_LONG_S = 0.1, 0.5
"""Bounds of the histogram. A turn may take 20 ms, which the benchmark measures; another
process may take the processor for longer than that, now and then.
"""


def long_turns(unpd: Unpd, bound_s: float = VERY_LONG_S) -> float:
    """How many turns of the master's loop were longer than the bound."""

    def take_a_turn() -> None:
        assert status(unpd)["ready"]

    return longer_than(turns_so_far(unpd.metrics, take_a_turn), bound_s)


@pytest.mark.slow
def test_a_list_of_thousands_of_connections_comes_in_short_turns(launch: Launch) -> None:
    """10,000 connections in 16 workers are listed while the master does its work."""
    count = 10_000
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
    with clients.crowd(str(unpd.control), 1000):
        assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    wait_all_ready(unpd)
    assert long_turns(unpd) == before


def ask_at_once(unpd: Unpd, verbs: list[str]) -> None:
    """Send all requests while the master is stopped, so that it finds them in one turn.
    It has accepted their connections before, because it accepts one each turn.
    """
    held = len(procs.fds(unpd.pid))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(clients.connect(str(unpd.control))) for _ in verbs]
        until(lambda: len(procs.fds(unpd.pid)) == held + len(verbs), 10.0, "all to be accepted")
        with procs.stopped([unpd.pid]):
            for sock, verb in zip(socks, verbs, strict=True):
                sock.sendall(json.dumps({"version": VERSION, "verb": verb}).encode() + b"\n")
        for sock in socks:
            assert read_answer(sock)["ok"] is True
    until(lambda: len(procs.fds(unpd.pid)) == held, 10.0, "all connections to be closed")


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
        before = long_turns(unpd, LONG_S)
        verbs = ("status", "workers", "listeners")
        for turn in range(ROUNDS):
            ask_at_once(unpd, [verbs[(turn + number) % len(verbs)] for number in range(ASKERS)])
        assert long_turns(unpd, LONG_S) - before < ROUNDS / 2
