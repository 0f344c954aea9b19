"""Limits at their edge, over several children: the last place is given, the next client
waits or is refused, and a place that any child frees is given again.
"""

import contextlib
import select
import time

import pytest

from tests.support import clients, procs
from tests.support.access import (
    HOME,
    MODELS,
    OTHER,
    RESUMED_S,
    come,
    echo,
    inside,
    refusals_become,
    refused,
)
from tests.support.counts import wait_active
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import renew
from tests.support.sessions import greet, served
from tests.support.waiting import holds, until

WORKERS = [1, 2, 16]
REFUSE = 'on_limit = "refuse"'


# --- places that another child frees --------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_place_that_a_draining_child_frees_is_soon_given(launch: Launch, model: str) -> None:
    """The child that accepts resumes soon, although it does not see that a client of
    the generation before leaves: only the count over all children tells it.
    """
    places = 1 if model == "iterative" else 4
    limit = f"max_connections = {places}"
    unpd = launch(echo(limit, model=model, workers=1))
    with inside(unpd, count=places) as socks, contextlib.ExitStack() as stack:
        renew(unpd, echo(limit, 'deny = ["192.0.2.0/24"]', model=model, workers=1))
        for sock in socks:
            late = stack.enter_context(come(unpd))
            unpd.metric_becomes(1, "unpd_listen_queue_length", service="echo")
            assert unpd.wait_event("service.at_limit").fields["reason"] == "max_connections"
            began = time.monotonic()
            sock.close()
            assert clients.read_exactly(late, 1) == b"x"
            assert time.monotonic() - began < RESUMED_S


@pytest.mark.slow
def test_the_places_of_a_killed_worker_are_soon_given(launch: Launch) -> None:
    """One of two workers has all clients of the service, and is killed: as many of
    those in the queue are served as it had, or one more, because its successor and the
    other worker may look at the same moment.
    """
    unpd = launch(echo("max_connections = 3", workers=2))
    holder, other = unpd.workers()
    with contextlib.ExitStack() as stack:
        with procs.stopped([other]):
            stack.enter_context(inside(unpd, count=3))
        waiting = [stack.enter_context(come(unpd)) for _ in range(6)]
        unpd.metric_becomes(6, "unpd_listen_queue_length", service="echo")
        began = time.monotonic()
        procs.kill([holder])
        assert [clients.read_exactly(sock, 1) for sock in waiting[:3]] == [b"x"] * 3
        assert time.monotonic() - began < RESUMED_S

        def are_open() -> int:
            page = unpd.metrics()
            names = ("unpd_connections_active", "unpd_listen_queue_length")
            active, queued = (total(page, name, service="echo") for name in names)
            return int(active) if active + queued == len(waiting) else 0

        assert until(are_open, 10.0, "each client to be open or queued") in (3, 4)


# --- a crash --------------------------------------------------------------------------


def test_the_limit_of_a_service_is_reached_again_after_each_crash(launch: Launch) -> None:
    """Each of three workers has some of the clients of a service that is full. As each
    is killed in its turn, exactly its places are given again.
    """
    keys = ("max_connections = 8", REFUSE)
    head = "[pools.default]\nmax_connections_per_worker = 3\n"
    unpd = launch(echo(*keys, workers=3).replace("[pools.default]\n", head))
    with contextlib.ExitStack() as stack:
        socks = stack.enter_context(inside(unpd, count=8))
        for worker in unpd.workers():
            assert refused(come(unpd)) == b""
            procs.kill([worker])
            unpd.wait_event("child.reaped", pid=worker)
            lost, _, _ = select.select(socks, (), (), 0)  # cut off before the worker was reaped
            assert 2 <= len(lost) <= 3
            socks = [greet(sock) for sock in socks if sock not in lost]
            socks += stack.enter_context(inside(unpd, count=len(lost)))
    wait_active(unpd, 0)
    refusals_become(unpd, 3, "max_connections")


# --- the edge -------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
def test_the_share_of_a_source_is_exact_for_one_after_the_other(
    launch: Launch, workers: int
) -> None:
    """Its last place is given, the next client of the source is refused, and a place
    that is freed is given again. Another source has as many.
    """
    unpd = launch(echo("max_per_source = 8", workers=workers))
    with inside(unpd, count=8) as socks:
        for _ in range(3):
            assert refused(come(unpd)) == b""
            socks.pop().close()
            wait_active(unpd, 7)
            socks.append(greet(come(unpd)))
        with inside(unpd, OTHER, 8):
            assert refused(come(unpd, OTHER)) == b""
    refusals_become(unpd, 4, "max_per_source")
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("key", ["accept_rate", "accept_rate_per_source"])
def test_a_rate_is_exact_for_one_after_the_other(launch: Launch, key: str, workers: int) -> None:
    """The last client of a window is served, though all before it have left, and the
    next ones are refused. Another source has a rate of its own.
    """
    unpd = launch(echo(f'{key} = "1/h burst 8"', REFUSE, workers=workers))
    for _ in range(8):
        with inside(unpd):
            pass
    wait_active(unpd, 0)
    for _ in range(3):
        assert refused(come(unpd)) == b""
    refusals_become(unpd, 3, key)
    if key == "accept_rate":
        assert refused(come(unpd, OTHER)) == b""
        return
    for _ in range(8):
        with inside(unpd, OTHER):
            pass
    assert refused(come(unpd, OTHER)) == b""


@pytest.mark.slow
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("key", ["max_connections = 8", 'accept_rate = "1/h burst 8"'])
def test_a_queue_is_exact_for_one_after_the_other(launch: Launch, key: str, workers: int) -> None:
    """The last place is given, and the next clients wait in the accept queue. Where one
    has left, the first of them comes in; but a rate has no place for it.
    """
    unpd = launch(echo(key, workers=workers))
    with contextlib.ExitStack() as stack:
        socks = served(stack, (HOME, unpd.port("echo")), 8)
        late = [stack.enter_context(come(unpd)) for _ in range(3)]

        def all_wait() -> bool:
            return not select.select(late, (), (), 0)[0]

        unpd.metric_becomes(3, "unpd_listen_queue_length", service="echo")
        unpd.wait_event("service.at_limit", service="echo", value=8, limit=8)
        holds(all_wait, 0.5, "a client too many is served")
        for sock in socks[:3]:
            sock.close()
            if key.startswith("max_connections"):
                assert clients.read_exactly(late.pop(0), 1) == b"x"
            holds(all_wait, 0.2, "a client too many is served")
    assert unpd.total("unpd_refused_total", service="echo") == 0
