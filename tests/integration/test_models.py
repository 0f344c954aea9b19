"""What the models fork and iterative have in common with the model event, which has
tests of its own: conversations, deadlines, causes of ends, counts, status, readiness.
"""

import re
import time

import pytest

from tests.support import clients
from tests.support.counts import wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.sessions import greet
from unpd.names import ChildKind, Model

MIB = 1 << 20
LATE_S = 10.0
"""How much later than its deadline an end may be seen on a busy machine."""


@pytest.fixture(params=[Model.FORK, Model.ITERATIVE])
def unpd(request: pytest.FixtureRequest, launch: Launch) -> Unpd:
    """A daemon that serves echo in one of the models, with different deadlines."""
    echo = f'type = "echo"\nlisten = ["tcp://127.0.0.1:0"]\nmodel = "{request.param}"\n'
    return launch(
        f"[services.plain]\n{echo}"
        f"[services.idle]\n{echo}idle_timeout_s = 0.5\n"
        f"[services.session]\n{echo}session_timeout_s = 0.7\n"
        f"[services.stall]\n{echo}user_timeout_s = 0.5\n"
    )


def test_a_model_changes_neither_ends_nor_status(unpd: Unpd) -> None:
    """A half-closed client gets every byte; a reset is one; a silent client, one that
    sends slowly, and one that does not read end at their deadlines, and not before. The
    status and the metrics show the children that serve, and readiness knows them.
    """
    shown = unpd.run("status", "--control", str(unpd.control)).stdout.decode()
    cells = [re.split("  +", line) for line in shown.splitlines()]
    ready = {(row[0], row[1]) for row in cells if row[3:4] == ["ready"]}
    assert ((ChildKind.DISPATCHER, "default/0") in ready) is not (
        {(ChildKind.ITERATIVE, service) for service in ("plain", "idle", "session", "stall")}
        <= ready
    )
    assert ["0", "0"] in [[row[1], row[5]] for row in cells if row[0] == "plain"]
    assert unpd.get("/readyz").status == 200
    kind = ChildKind.ITERATIVE if unpd.children(ChildKind.ITERATIVE) else ChildKind.DISPATCHER
    count = len(unpd.children(kind))
    unpd.metric_becomes(count, "unpd_workers_wanted", kind=kind, pool="default")
    unpd.metric_becomes(count, "unpd_workers_wanted")
    unpd.metric_becomes(count, "unpd_workers", kind=kind, pool="default", state="ready")
    data = bytes(range(256)) * 4096
    assert clients.converse(unpd.address("plain"), data) == data
    with clients.connect(unpd.address("plain")) as sock:
        clients.reset(greet(sock))
    found = wait_ended(unpd, {"client_fin": 1, "client_rst": 1}, service="plain")
    assert (found.accepted, found.received, found.sent) == (2, MIB + 1, MIB + 1)

    began = time.monotonic()
    with (
        clients.connect(unpd.address("stall"), receive_buffer=1) as deaf,
        clients.connect(unpd.address("idle")) as silent,
        clients.connect(unpd.address("session")) as slow,
    ):
        clients.send_until_blocked(deaf, 8 * MIB, stall_s=0.1)
        assert clients.send_slowly(slow, bytes(1000), 0.05) < 1000
        assert 0.7 <= time.monotonic() - began < 0.7 + LATE_S
        assert clients.read_all(silent) == b""
        assert 0.5 <= time.monotonic() - began < 0.5 + LATE_S
        wait_ended(unpd, {"stalled": 1}, service="stall", timeout_s=LATE_S)
        deaf.setblocking(True)
        with pytest.raises(ConnectionResetError):
            clients.read_all(deaf)
    wait_ended(unpd, {"idle": 1}, service="idle")
    wait_ended(unpd, {"session_limit": 1}, service="session")
