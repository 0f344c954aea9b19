"""Quick reloads that take an address away and bring it back, while a worker that drains
may still have it open.
"""

import contextlib
import itertools
import os
import signal

import pytest

from tests.support import clients, procs
from tests.support.launch import Launch
from tests.support.operating import (
    read_answer,
    reconfigure,
    refused_reload,
    reload,
    send_request,
    status,
)
from tests.support.ports import free_port
from tests.support.waiting import until


@pytest.mark.slow
def test_quick_reloads_take_an_address_away_and_bring_it_back(launch: Launch) -> None:
    """Reload after reload exchanges the address, also for one that includes it. The
    workers that drain may still have the old one open: the reload waits for them.
    """
    one, other = free_port(), free_port()
    between = f"127.0.0.1:{other}"
    hosts = itertools.cycle([f"127.0.0.1:{one}", between, f"0.0.0.0:{one}", between])
    text = '[pools.default]\nworkers = 4\n[services.echo]\nlisten = ["tcp://{}"]\n'
    unpd = launch(text.format(between))
    for generation in range(2, 32):
        assert reload(unpd, text.format(next(hosts))) == generation


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_reload_waits_for_a_worker_that_drains(launch: Launch, scheme: str) -> None:
    """While a stopped worker holds an address that a reload brings back, the daemon
    answers others. The reload goes through when the worker has closed it, and is
    refused with the true reason if that takes too long.
    """
    one, other, always = free_port(), free_port(), free_port()
    text = f'[services.echo]\nlisten = ["{scheme}://127.0.0.1:{{}}", "tcp://127.0.0.1:{always}"]\n'
    unpd = launch(text.format(one))
    worker = unpd.workers()[0]
    with procs.stopped([worker]):
        assert reload(unpd, text.format(other)) == 2
        reason = refused_reload(unpd, text.format(one))
        assert f"unpd itself listened on {scheme}://127.0.0.1:{one} before" in reason
        with contextlib.closing(send_request(unpd.control, verb="reload")) as asked:
            until(lambda: status(unpd)["phase"] == "loading", 5.0, "the reload to begin")
            assert clients.converse(("127.0.0.1", always), b"still") == b"still"
            os.kill(worker, signal.SIGCONT)
            assert read_answer(asked)["generation"] == 3
    assert clients.converse(("127.0.0.1", always), b"again") == b"again"
    listeners = status(unpd)["services"][0]["listeners"]
    assert f"{scheme}://127.0.0.1:{one}" in [listener["address"] for listener in listeners]


def test_a_stop_ends_the_wait_for_an_address(launch: Launch) -> None:
    """A reload that waits is answered when the daemon stops."""
    text = '[services.echo]\nlisten = ["tcp://127.0.0.1:{}"]\n'
    one, other = free_port(), free_port()
    unpd = launch(text.format(one))
    with procs.stopped([unpd.workers()[0]]):
        assert reload(unpd, text.format(other)) == 2
        reconfigure(unpd, text.format(one))
        with contextlib.closing(send_request(unpd.control, verb="reload")) as asked:
            until(lambda: status(unpd)["phase"] == "loading", 5.0, "the reload to begin")
            unpd.signal(signal.SIGTERM)
            assert read_answer(asked)["ok"] is False
    assert unpd.wait_exit() == 0
