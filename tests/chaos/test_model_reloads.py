"""A service changes its model under load, and forks thousands of sessions."""

import contextlib

import pytest

from tests.support import clients, loads, procs
from tests.support.counts import service_counts, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import reload
from tests.support.sessions import dispatcher, greet, served
from tests.support.waiting import until
from unpd.names import ChildKind, Model

CONFIG = """
[log]
level = "info"

[services.echo]
listen = ["tcp://127.0.0.1:0"]
model = "{model}"
"""
PATIENCE_S = 60.0
ROUND = (Model.FORK, Model.ITERATIVE, Model.EVENT)
SERVING = {
    Model.EVENT: ChildKind.WORKER,
    Model.FORK: ChildKind.DISPATCHER,
    Model.ITERATIVE: ChildKind.ITERATIVE,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "rounds"),
    [
        pytest.param(100.0, 1, id="some"),  # other tests use the machine at this time
        pytest.param(500.0, 10, id="full", marks=pytest.mark.slow),
    ],
)
def test_the_model_changes_under_load(launch: Launch, rate: float, rounds: int) -> None:
    """Event, fork, iterative, event, by reloads under so many sessions a second: nobody
    is refused or reset, each session is counted once, a client of each model goes on
    through the later ones, and no process is left.
    """
    unpd = launch(CONFIG.format(model=Model.EVENT))
    with (
        contextlib.ExitStack() as stack,
        loads.running(
            unpd.address("echo"),
            rate=rate,
            concurrency=256,
            timeout_s=PATIENCE_S,
        ) as load,
    ):
        lasting = served(stack, unpd.address("echo"))
        for model in ROUND * rounds:
            reload(unpd, CONFIG.format(model=model))
            assert unpd.children(SERVING[model])
            load.more(50, timeout_s=PATIENCE_S)
            if model is Model.FORK and len(lasting) == 1:
                lasting += served(stack, unpd.address("echo"))
        said = load.stop()
        print(f"{said.attempts} sessions at {said.rate:.0f} a second, latency {said.latency_s}")
        said.assert_clean(at_least=150)
        assert all(greet(sock) for sock in lasting)
    found = wait_ended(unpd, {"client_fin": said.ok + len(lasting)})
    assert found.received == found.sent
    samples = unpd.metrics()
    forked = total(samples, "unpd_session_processes_spawned_total", service="echo")
    assert 1 < forked < said.ok
    assert total(samples, "unpd_session_processes_reaped_total", reason="clean") == forked
    unpd.metric_becomes(0, "unpd_zombies")  # a child that retired may just have died
    until(lambda: only(unpd, Model.EVENT), 10.0, "the children of the other models to leave")


def only(unpd: Unpd, model: Model) -> bool:
    """Whether no other kind of child serves."""
    return [kind for kind in SERVING.values() if unpd.children(kind)] == [SERVING[model]]


@pytest.mark.slow
@pytest.mark.timeout(900)  # ten thousand take as long as the machine needs
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(200, id="some"),
        pytest.param(10_000, id="full", marks=pytest.mark.slow),
    ],
)
def test_thousands_of_sessions_leave_no_zombie(launch: Launch, count: int) -> None:
    """Each is forked, reaped and counted once, with every byte. No descriptor stays
    open in the dispatcher, and its memory does not grow.
    """
    unpd = launch(CONFIG.format(model=Model.FORK))
    parent = dispatcher(unpd)
    with contextlib.ExitStack() as stack:  # what the first session costs once
        served(stack, unpd.address("echo"))
    wait_ended(unpd, {"client_fin": 1})
    before, resident = procs.fds(parent), procs.rss_bytes(parent)
    with loads.running(unpd.address("echo"), concurrency=32, timeout_s=PATIENCE_S) as load:
        load.more(count, timeout_s=800)
        assert unpd.total("unpd_zombies") < 256
        said = load.stop()
    said.assert_clean(at_least=count)
    print(f"{said.ok} sessions at {said.rate:.0f} a second")
    found = wait_ended(unpd, {"client_fin": said.ok + 1}, timeout_s=PATIENCE_S)
    assert found.received == found.sent == 32 * said.ok + 1
    samples = unpd.metrics()
    for name in ("spawned", "reaped"):
        assert total(samples, f"unpd_session_processes_{name}_total") == said.ok + 1
    assert total(samples, "unpd_session_processes_reaped_total", reason="clean") == said.ok + 1
    unpd.metric_becomes(0, "unpd_zombies")  # a child that retired may just have died
    assert not procs.children(parent)
    assert procs.fds(parent) == before
    assert procs.rss_bytes(parent) < resident + (4 << 20)
    assert dispatcher(unpd) == parent
    assert service_counts(unpd).active == 0
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
