"""The verbs that change a running daemon for a while: pause, resume, drain, log-level
and scale.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from time import CLOCK_BOOTTIME
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.memory_sink import MemorySink
from tests.support.operating import ask, reload, status
from tests.support.programs import service
from tests.support.runtimes import running
from tests.support.waiting import until
from unpd.access.explain import REFUSED, WAITS
from unpd.board.layout import Master
from unpd.control.answer_fields import mismatch
from unpd.control.change_fields import HALT
from unpd.control.protocol import Request
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core.model import State
from unpd.kernel.credentials import Credentials
from unpd.logs import Log
from unpd.loop import now
from unpd.master import explaining, halting, live_changes, scaling
from unpd.master.children.kinds import wanted_children
from unpd.master.live_changes import clock
from unpd.master.runtime import Runtime
from unpd.names import ChildKind, Halt, MasterPhase

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nmodel = "{}"\n'
UDP = '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]\n'
MORE = '[services.discard]\nlisten = ["tcp://127.0.0.1:0"]\n'
TWO = "[pools.default]\nworkers = 2\n"
ONE = "[pools.default]\nworkers = 1\n"
INFO = '[log]\nlevel = "info"\n'


def done(unpd: Unpd, *words: str, code: int = 0) -> str:
    """What a command says."""
    ended = unpd.run(*words, "--control", str(unpd.control))
    said = ended.stdout.decode() + ended.stderr.decode()
    assert ended.returncode == code, said
    return said


def asking(stack: contextlib.ExitStack, unpd: Unpd) -> socket.socket:
    """A client that has sent two bytes to echo."""
    sock = stack.enter_context(clients.connect(unpd.address("echo")))
    sock.sendall(b"xy")
    return sock


def is_refused(unpd: Unpd) -> bool:
    """Whether a new client of echo gets an end of file at once."""
    with clients.connect(unpd.address("echo")) as sock:
        return clients.read_all(sock) == b""


def waiting(unpd: Unpd) -> int:
    """How many clients wait in the accept queue of echo."""
    (echo,) = [one for one in status(unpd)["services"] if one["name"] == "echo"]
    return int(echo["listeners"][0]["queue"]["length"])


def changes(unpd: Unpd) -> list[tuple[str, str | None, str]]:
    """The live changes that the status lists."""
    found = status(unpd)["live_changes"]
    return [(one["change"], one["subject"], one["value"]) for one in found]


@pytest.mark.parametrize("model", ["event", "fork", "iterative"])
def test_a_pause_lets_clients_wait(launch: Launch, model: str) -> None:
    """Also in children that are born later. Open connections go on, and a resume lets
    the others in.
    """
    kinds = {"event": ChildKind.WORKER, "fork": ChildKind.DISPATCHER}
    kind = kinds.get(model, ChildKind.ITERATIVE)
    unpd = launch(ONE + ECHO.format(model))
    with contextlib.ExitStack() as stack:
        first = asking(stack, unpd)
        assert clients.read_exactly(first, 2) == b"xy"
        said = done(unpd, "pause", "echo")
        assert said == (
            "new clients of echo wait until unpd resume echo; a restart of the daemon ends it too;"
            " 1 connection open\n"
        )
        second = asking(stack, unpd)
        first.sendall(b"ab")
        assert clients.read_exactly(first, 2) == b"ab"
        (child,) = unpd.children(kind)
        os.kill(child, SIGKILL)
        unpd.wait_event(f"{kind}.ready", after=1)
        until(lambda: waiting(unpd) == 1, 10.0, "the client to wait")
        assert unpd.metric("unpd_service_halted", service="echo") == 1
        assert changes(unpd) == [("halt", "echo", "paused")]
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(1)
        second.settimeout(10.0)
        assert done(unpd, "resume", "echo") == "echo takes new clients again\n"
        assert clients.read_exactly(second, 2) == b"xy"
        assert changes(unpd) == []
        event = unpd.wait_event("service.resumed")
        assert (event.fields["was"], event.fields["reason"]) == ("paused", "unpd resume")


def test_a_pause_that_refuses_closes_connections(launch: Launch) -> None:
    """They are counted under a reason of their own, and so are datagrams. It ends by
    itself.
    """
    unpd = launch(UDP)
    said = done(unpd, "pause", "echo", "--refuse", "--for", "10m")
    assert said.startswith("new clients of echo are refused until 20")
    with contextlib.ExitStack() as stack:
        assert is_refused(unpd)
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.connect(("127.0.0.1", udp_port(unpd)))
        udp.send(b"x")
        unpd.metric_becomes(2, "unpd_refused_total", service="echo", reason="paused")
    (echo,) = status(unpd)["services"]
    assert (echo["halted"], echo["active"]) == ("refusing", 0)
    assert "HALTED" in done(unpd, "status"), "the table has a column for it"
    done(unpd, "pause", "echo", "--for", "1s")
    unpd.wait_event("service.resumed", reason="its time is over")
    with contextlib.ExitStack() as stack:
        assert clients.read_exactly(asking(stack, unpd), 2) == b"xy"


def udp_port(unpd: Unpd) -> int:
    """The port of the datagram socket of echo."""
    (address,) = [
        event.fields["address"]
        for event in unpd.log_events("listener.opened", service="echo")
        if str(event.fields["address"]).startswith("udp:")
    ]
    return int(str(address).rpartition(":")[2])


def test_a_pause_keeps_programs_from_starting(launch: Launch) -> None:
    """Those of a launcher, and one that would take the clients itself."""
    unpd = launch(service("cat", "/bin/cat") + service("whole", "/bin/sleep", "60", wait=True))
    done(unpd, "pause", "cat")
    assert "a program has the listener itself" in done(unpd, "drain", "whole")
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(clients.connect(unpd.address("cat")))
        stack.enter_context(clients.connect(unpd.address("whole")))
        sock.sendall(b"xy")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert unpd.total("unpd_session_processes_spawned_total") == 0
        assert unpd.total("unpd_refused_total") == 0, "nothing can refuse for a whole program"
        sock.settimeout(10.0)
        done(unpd, "resume", "cat")
        assert clients.read_exactly(sock, 2) == b"xy"


def test_a_drain_waits_for_the_open_connections(launch: Launch) -> None:
    """New clients are refused meanwhile. If some are left in the end, the exit code
    says so, and the drain goes on.
    """
    unpd = launch(ECHO.format("event"))
    with contextlib.ExitStack() as stack:
        sock = asking(stack, unpd)
        assert clients.read_exactly(sock, 2) == b"xy"
        said = done(unpd, "drain", "echo", "--timeout", "1s", code=4).splitlines()
        assert said[0].startswith("new clients of echo are refused until unpd resume echo; ")
        assert said[1].startswith("echo is not drained in time: 1 connection left; the drain goes")
        assert is_refused(unpd)
        unpd.metric_becomes(1, "unpd_refused_total", service="echo", reason="draining")
        done(unpd, "kick", "--service", "echo")
        told = json.loads(done(unpd, "drain", "echo", "--json"))
        assert mismatch(told, HALT) == ""
        assert (told["halted"], told["was"], told["connections"]) == ("draining", "draining", 0)
        assert done(unpd, "resume", "echo") == "echo takes new clients again\n"
        assert done(unpd, "resume", "echo") == "echo takes new clients: it was not halted\n"


def test_live_changes_outlast_reloads(launch: Launch) -> None:
    """A halt as long as its service is there, a level in any case, a number of workers
    as long as the file wants as many as before.
    """
    text = INFO + ECHO.format("event") + MORE + TWO
    unpd = launch(text)
    done(unpd, "pause", "echo")
    done(unpd, "pause", "discard")
    said = done(unpd, "scale", "default", "3")
    assert said == (
        "pool default: 3 workers, 2 before; the configuration wants 2; a restart of the daemon ends"
        " it too\n"
    )
    assert done(unpd, "log-level", "debug").startswith("the level of the log is debug until unpd")
    until(lambda: len(unpd.workers()) == 3, 10.0, "the third worker")
    reload(unpd, INFO + ECHO.format("event") + "idle_timeout_s = 77\n" + TWO)
    unpd.wait_event("service.resumed", service="discard")
    assert changes(unpd) == [
        ("halt", "echo", "paused"),
        ("log_level", None, "debug"),
        ("scale", "default", "3"),
    ]
    with contextlib.ExitStack() as stack:
        sock = asking(stack, unpd)
        until(lambda: waiting(unpd) == 1, 10.0, "the client to wait")
        done(unpd, "resume", "echo")
        assert clients.read_exactly(sock, 2) == b"xy"
        unpd.wait_event("connection.started", service="echo")
    reload(unpd, text.replace("workers = 2", "workers = 1"))
    unpd.wait_event("pool.scale_ended", pool="default", workers=1)
    assert changes(unpd) == [("log_level", None, "debug")]
    said = done(unpd, "log-level", "configured")
    assert said == "the level of the log is info, as the configuration wants it\n"


def test_every_process_takes_the_level(launch: Launch) -> None:
    """Those that are born later, too. The lines about connections have level debug."""
    unpd = launch(INFO + ONE + ECHO.format("event"))

    def started() -> int:
        return len(unpd.log_events("connection.started"))

    def serve() -> None:
        with contextlib.ExitStack() as stack:
            assert clients.read_exactly(asking(stack, unpd), 2) == b"xy"
        wait_active(unpd, 0)

    serve()
    assert started() == 0
    done(unpd, "log-level", "debug")
    serve()
    unpd.wait_event("connection.started")
    (worker,) = unpd.workers()
    os.kill(worker, SIGKILL)
    unpd.wait_event("worker.ready", after=1)
    serve()
    unpd.wait_event("connection.started", after=1)
    done(unpd, "log-level", "configured")
    serve()
    assert started() == 2


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_named(launch: Launch) -> None:
    """It takes the level when it goes on."""
    unpd = launch(INFO + ONE + ECHO.format("event"))
    (worker,) = unpd.workers()
    os.kill(worker, SIGSTOP)
    try:
        said = done(unpd, "log-level", "debug", code=1)
    finally:
        os.kill(worker, SIGCONT)
    assert f"no answer from worker default/0 (pid {worker})" in said

    def is_logged() -> bool:
        with contextlib.ExitStack() as stack:
            clients.read_exactly(asking(stack, unpd), 2)
        return bool(unpd.log_events("connection.started"))

    until(is_logged, 10.0, "the worker to take the level")


@pytest.mark.slow
def test_a_daemon_that_stops_answers(launch: Launch) -> None:
    """It takes another level, and refuses the rest in one sentence."""
    unpd = launch(INFO + ONE + ECHO.format("event"))
    (worker,) = unpd.workers()
    os.kill(worker, SIGSTOP)
    try:
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping")
        for verb in ("pause", "resume", "drain"):
            assert (
                "the daemon is stopping" in ask(unpd.control, verb=verb, service="echo")["reason"]
            )
        answer = ask(unpd.control, verb="scale", pool="default", workers="2")
        assert answer["reason"] == "the daemon is stopping"
        answer = ask(unpd.control, verb="log-level", level="debug")
        assert (answer["ok"], answer["silent"]) == (True, [f"worker default/0 (pid {worker})"])
    finally:
        os.kill(worker, SIGCONT)
    assert unpd.wait_exit() == 0


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("pause", "ehco"), 2, 'the daemon has no service "ehco"; it has "echo"'),
        (("drain", "echo", "--timeout", "1x"), 2, '"1x" is no time'),
        (("wait", "drained", "echo"), 1, "echo is not draining: it takes new clients"),
        (("wait", "ready", "echo"), 2, 'ready is about the whole daemon: leave "echo" out'),
        (("wait", "drained", "ehco"), 2, 'the daemon has no service "ehco"; it has "echo"'),
        (("scale", "default", "2"), 2, 'the pool "default" has no workers: dispatchers serve'),
        (("scale", "fast", "2"), 2, 'the daemon has no pool "fast"; it has "default"'),
        (("scale", "default", "0"), 2, "a whole number from 1 to 512"),
        (("log-level", "loud"), 2, "write one of debug, info, warning, error, configured"),
        (("log-level", "configured", "--for", "1m"), 2, "leave --for out"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    launch: Launch, words: tuple[str, ...], code: int, sentence: str
) -> None:
    """In one sentence that says what would be right. What the daemon does at the moment
    is no wrong usage.
    """
    unpd = launch(ECHO.format("fork"))
    assert sentence in done(unpd, *words, code=code).splitlines()[-1]


# --- halts without a daemon -----------------------------------------------------------


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A master with a service of connections, and one of datagrams."""
    text = (
        "[metrics]\nlisten = false\n"
        + ECHO.format("event")
        + '[services.time]\nlisten = ["udp://127.0.0.1:0"]\n'
    )
    with running(text, Log(MemorySink().sink, "info", "text")) as found:
        yield found


def carried_out(
    runtime: Runtime,
    verb: str,
    phase: MasterPhase = MasterPhase.RUNNING,
    span: str | None = None,
    **arguments: Any,
) -> Any:
    """The answer to a verb about echo, of user 42. ``span``: for how long."""
    values = {"service": "echo", "for": span, "refuse": False} | arguments
    pending = PendingRequest(7, Request(verb, values), Credentials(41, 42, 43))
    state = State(wanted_children(runtime.deployment), phase=phase)
    fields = getattr(halting, verb)(runtime, state, pending)
    assert mismatch(fields, HALT) == ""
    return fields


def test_a_halt_is_seen_at_once_and_ends_in_time(runtime: Runtime) -> None:
    """Children and metrics see it as soon as the verb is answered. The last one
    holds.
    """
    column = runtime.columns.services.column("echo")
    shown = runtime.live.halted
    assert carried_out(runtime, "pause")["was"] is None
    assert shown.of(column) is Halt.PAUSED
    assert carried_out(runtime, "drain")["was"] == "paused"
    assert shown.of(column) is Halt.DRAINING
    found = carried_out(runtime, "pause", refuse=True, span="10m")
    assert (found["halted"], found["was"]) == ("refusing", "draining")
    assert found["until"].endswith("Z")
    assert shown.of(column) is Halt.REFUSING
    assert runtime.board.words[Master.HALTED + column] == 1
    halting.look(runtime, clock() + 599)
    assert shown.of(column) is Halt.REFUSING
    assert now() + 599 < runtime.live.due_at < now() + 601
    halting.look(runtime, clock() + 601)
    assert shown.of(column) is None
    assert runtime.board.words[Master.HALTED + column] == 0
    assert carried_out(runtime, "resume")["was"] is None


def test_an_end_is_told_by_the_clock_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may set the clock on the wall meanwhile, and the time in suspend
    counts.
    """
    since_boot, wall = [1000.0], [0.0]
    clocks = SimpleNamespace(
        CLOCK_BOOTTIME=CLOCK_BOOTTIME,
        clock_gettime=lambda which: since_boot[which - CLOCK_BOOTTIME],
        time=lambda: wall[0],
    )
    monkeypatch.setattr(live_changes, "time", clocks)
    term = live_changes.Term.of_span("10m")
    assert term.text == "1970-01-01T00:10:00Z"
    since_boot[0], wall[0] = 1060.0, 3660.0
    assert term.text == "1970-01-01T01:10:00Z"
    assert live_changes.Term.of_span(None).text == ""


@pytest.mark.parametrize("verb", ["pause", "drain", "resume"])
def test_a_stop_refuses(runtime: Runtime, verb: str) -> None:
    """The listeners are closed."""
    with pytest.raises(VerbError, match="the daemon is stopping"):
        carried_out(runtime, verb, MasterPhase.STOPPING)


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (MasterPhase.STARTING, "the daemon is starting: ask again when it is running"),
        (MasterPhase.PROVING, "the daemon is proving: ask again when it is running"),
        (MasterPhase.LAME, "the daemon is stopping"),
        (MasterPhase.STOPPING, "the daemon is stopping"),
    ],
)
def test_a_scale_reads_no_configuration_that_is_about_to_change(
    runtime: Runtime, phase: MasterPhase, reason: str
) -> None:
    """It would keep the number of the old one for that of the new one."""
    request = Request("scale", {"pool": "default", "workers": "3"})
    pending = PendingRequest(7, request, Credentials(41, 42, 43))
    state = State(wanted_children(runtime.deployment), phase=phase)
    with pytest.raises(VerbError, match=f"^{reason}$"):
        scaling.scale(runtime, state, pending)
    assert not runtime.events


@pytest.mark.parametrize("phase", [phase for phase in MasterPhase if phase != "stopping"])
def test_a_reload_hinders_no_halt(runtime: Runtime, phase: MasterPhase) -> None:
    """Nor does the start."""
    found = [carried_out(runtime, verb, phase)["halted"] for verb in ("pause", "drain", "resume")]
    assert found == ["paused", "draining", None]


@pytest.mark.parametrize(
    ("name", "verb", "refuse", "expected"),
    [
        ("echo", "pause", False, (WAITS, "paused")),
        ("echo", "pause", True, (REFUSED, "paused")),
        ("echo", "drain", False, (REFUSED, "draining")),
        ("time", "pause", False, (REFUSED, "paused")),
    ],
)
def test_a_halt_is_explained(
    runtime: Runtime, name: str, verb: str, refuse: bool, expected: tuple[str, str]
) -> None:
    """As the first reason; of a service of datagrams alone as they are treated."""
    carried_out(runtime, verb, service=name, refuse=refuse)
    found = explaining.explained(runtime, {"service": name, "peer": "192.0.2.1"})
    first = found["checks"][0]
    assert (found["outcome"], first["reason"]) == expected
    assert (first["refuses"], first["waits"]) == (True, found["outcome"] == WAITS)


def test_a_resume_of_a_service_that_is_gone_costs_nothing(runtime: Runtime) -> None:
    """A new configuration without the service ends its halt."""
    carried_out(runtime, "pause")
    without = SimpleNamespace(services={"time": None})
    deployment = runtime.deployment
    runtime.deployment = cast(Any, SimpleNamespace(config=without))
    halting.adopted(runtime)
    runtime.deployment = deployment
    assert runtime.live.halts == {}
    assert runtime.live.halted.of(runtime.columns.services.column("echo")) is None
