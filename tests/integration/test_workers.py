"""``unpd workers`` and ``unpd listeners`` list what the status has, too."""

import contextlib
import json
import os
import socket
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, status
from tests.support.waiting import until
from unpd.control.answer_fields import mismatch
from unpd.control.view_fields import LISTENER, LISTENERS, WORKERS
from unpd.kernel.procfs import usage


def listed(unpd: Unpd, verb: str, key: str) -> list[dict[str, Any]]:
    """The rows that a command prints as JSON."""
    done = unpd.run(verb, "--json", "--control", str(unpd.control))
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert told["schema"] == 1
    found: list[dict[str, Any]] = told[key]
    return found


def workers(unpd: Unpd) -> list[dict[str, Any]]:
    """The rows of ``unpd workers``."""
    found = listed(unpd, "workers", "children")
    assert mismatch({"children": found}, WORKERS) == ""
    return found


def test_each_process_is_listed_with_what_it_does_and_uses(launch: Launch) -> None:
    """A worker that takes the place of another has accepted nothing yet."""
    unpd = launch(
        "[pools.default]\nworkers = 1\n"
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
        '[services.forked]\ntype = "echo"\nmodel = "fork"\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    with contextlib.ExitStack() as stack:
        for service in ("echo", "forked"):
            for _ in range(2):
                sock = stack.enter_context(clients.connect(unpd.address(service)))
                sock.sendall(b"x")
                assert clients.read_exactly(sock, 1) == b"x"
        until(
            lambda: all(one["cpu_percent"] is not None for one in status(unpd)["children"]),
            20.0,
            "the load of each process",
        )
        found = {one["kind"]: one for one in workers(unpd)}
        assert {kind: (one["connections"], one["accepted"]) for kind, one in found.items()} == {
            "worker": (2, 2),
            "dispatcher": (2, 2),
            "exporter": (None, None),
        }
        for one in found.values():
            assert 0 < one["memory_bytes"] < 1 << 30
            assert 0 <= one["cpu_s"] < 60
            assert 0 <= one["heartbeat_age_s"] < 20
        (worker,) = unpd.workers()
        assert found["worker"]["pid"] == worker
        os.kill(worker, SIGKILL)
        unpd.wait_event("worker.ready", after=1)
        same = status(unpd)["children"]
        (next_one,) = [one for one in same if one["kind"] == "worker"]
        assert (next_one["connections"], next_one["accepted"]) == (0, 0)
        asked = ask(unpd.control, verb="workers")["children"]
        assert [one["birth"] for one in asked] == [one["birth"] for one in same]
    text = unpd.run("workers", "--control", str(unpd.control)).stdout.decode()
    assert text.startswith("KIND        SLOT       PID ")
    assert text.count("\n") == 4


@pytest.mark.slow
def test_each_listener_is_listed_with_its_queue(launch: Launch, tmp_path: Path) -> None:
    """Its length now, the greatest, and the limit; a UNIX listener shows none."""
    unpd = launch(
        "[pools.default]\nworkers = 1\nmax_connections_per_worker = 1\n"
        f'[services.echo]\nlisten = ["tcp://127.0.0.1:0", "unix://{tmp_path}/s",'
        ' "udp://127.0.0.1:0"]\nbacklog = 8\n'
    )
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(clients.connect(unpd.address("echo")))
        wait_active(unpd, 1)
        unpd.metric_becomes(3, "unpd_listen_queue_length", service="echo")
    unpd.metric_becomes(0, "unpd_listen_queue_length", service="echo")
    found = listed(unpd, "listeners", "listeners")
    assert mismatch({"listeners": found}, LISTENERS) == ""
    assert all(set(one) == {field.name for field in LISTENER} for one in found)
    by_kind = {one["kind"]: one for one in found if one["service"] == "echo"}
    assert by_kind["tcp"]["queue"] == {"length": 0, "max": 3, "limit": 8}
    assert (by_kind["unix"]["queue"], by_kind["unix"]["drops"]) == (None, None)
    assert (by_kind["udp"]["queue"], by_kind["udp"]["drops"]) == (None, 0)
    assert {one["state"] for one in found} == {"open"}
    assert [one["address"] for one in found if one["service"] == "metrics"] == [
        f"tcp://127.0.0.1:{unpd.port('metrics')}"
    ]
    text = unpd.run("listeners", "--control", str(unpd.control)).stdout.decode()
    assert "unix://" in text
    assert "0      3                8" in text


def test_a_full_queue_shows_what_the_kernel_dropped(launch: Launch) -> None:
    """Connections that found no room."""
    unpd = launch(
        "[pools.default]\nworkers = 1\nmax_connections_per_worker = 1\n"
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nbacklog = 1\n'
    )

    def drops() -> int:
        (one,) = status(unpd)["services"][0]["listeners"]
        return int(one["drops"])

    with contextlib.ExitStack() as stack:
        for _ in range(6):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(unpd.address("echo"))
        until(lambda: drops() > 0, 10.0, "a drop")


def test_the_kernel_tells_what_a_process_uses() -> None:
    """Of our own process, and not of one that is gone."""
    used = usage(os.getpid())
    assert used is not None
    assert 0 < used.cpu_s <= sum(os.times()[:2]) + 0.02
    assert used.resident_bytes > 1 << 20
    assert usage(2**22 + 1) is None
