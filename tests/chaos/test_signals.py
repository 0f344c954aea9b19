"""Signals to the master and to newborn children: any inherited state, any moment, any
number.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, Signals

import pytest

from tests.support import clients, faults, loads, procs, scale
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import send_request, status
from tests.support.scale import first
from tests.support.waiting import pause, until
from unpd.kernel.processes import signal_name
from unpd.kernel.signals import numbers_of
from unpd.master.children.fork import IGNORED
from unpd.names import MASTER_SIGNALS, SignalMeaning

CONCURRENCY = 64


def block_everything() -> None:
    """Block every signal, as a careless launcher does."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())


def ignore_everything() -> None:
    """Ignore every signal, as nohup does for one."""
    for number in signal.valid_signals() - {SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("inherited", [block_everything, ignore_everything])
def test_inherited_signal_state(launch: Launch, inherited: Callable[[], None]) -> None:
    """The daemon works when started with every signal blocked or ignored. Nothing is
    blocked in master, worker or exporter, deaths are noticed, and TERM works.
    """
    unpd = launch(preexec=inherited)
    exporter = unpd.exporter()
    assert exporter is not None
    for pid in (unpd.pid, exporter, *unpd.workers()):
        until(lambda pid=pid: not procs.signals(pid).blocked, 5.0, f"no blocked signal in {pid}")  # type: ignore[misc]
    victims = unpd.workers()
    procs.kill(victims)
    unpd.wait_respawned(victims)
    assert unpd.stop() == 0


def assert_reaped_is_spawned(unpd: Unpd) -> None:
    """Assert by the log of an ended daemon that every birth has one death."""
    spawned = [event.fields["birth"] for event in unpd.log_events("child.spawned")]
    reaped = [event.fields["birth"] for event in unpd.log_events("child.reaped")]
    assert sorted(spawned) == sorted(reaped)
    assert not unpd.log_events("child.unknown")


# --- strays ---------------------------------------------------------------------------

NOTED = [
    number
    for row in MASTER_SIGNALS
    if row.meaning is SignalMeaning.NOTED
    for number in numbers_of(row.name)
]
QUIET = [
    number
    for row in MASTER_SIGNALS
    if row.meaning is SignalMeaning.IGNORED
    for number in numbers_of(row.name)
]


@pytest.mark.slow
def test_a_stray_signal_ends_no_process(launch: Launch) -> None:
    """Every signal that means nothing leaves the master alive, which notes it. Others
    use SIGUSR2 for an upgrade, and killall(1) sends it to all processes of a name: each
    child ignores every signal but its orders.
    """
    unpd = launch()
    family = sorted(procs.child_pids(unpd.pid))
    for number in (*NOTED, *QUIET):
        os.kill(unpd.pid, number)
    for pid in family:
        for number in IGNORED:
            os.kill(pid, number)
    names = {signal_name(number) for number in NOTED}
    until(lambda: names <= noted(unpd), 10.0, lambda: f"all but {noted(unpd)} of {names}")
    assert not {signal_name(number) for number in QUIET} & noted(unpd)
    assert unpd.log_events("signal.ignored")[0].level == "warning"
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    unpd.metric_becomes(2, "unpd_workers", state="ready")
    assert sorted(procs.child_pids(unpd.pid)) == family
    assert not unpd.log_events("child.reaped")
    assert unpd.stop() == 0


def noted(unpd: Unpd) -> set[str]:
    """The names of the signals that the log says were ignored."""
    lines = [event.fields["signal"] for event in unpd.log_events("signal.ignored")]
    return {name.partition("*")[0] for line in lines for name in line.split(",")}


@pytest.mark.slow
def test_the_last_stray_signals_are_noted_too(launch: Launch) -> None:
    """A line about those that came soon after another line follows, though no other
    signal comes.
    """
    unpd = launch()
    for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN, signal.SIGALRM):
        os.kill(unpd.pid, number)
    wanted = {"SIGUSR2", "SIGALRM", "SIGRTMIN"}
    until(lambda: noted(unpd) == wanted, 5.0, lambda: f"{wanted}: {noted(unpd)}")


def gather_signals() -> None:
    """Block every signal, and let many wait for the daemon that this process becomes:
    they outlast execve(2).
    """
    block_everything()
    orders = (SIGHUP, SIGUSR1, signal.SIGTTIN, signal.SIGCHLD)
    for number in (*NOTED, *QUIET, *orders):
        for _ in range(20):
            os.kill(os.getpid(), number)


@pytest.mark.slow
def test_signals_that_gather_before_the_start_are_all_taken(launch: Launch) -> None:
    """The kernel delivers them all when the master unblocks them. Their handlers run
    one after the other, and the daemon starts: the orders are carried out, and the
    others noted.
    """
    unpd = launch(preexec=gather_signals)
    names = {signal_name(number) for number in NOTED}
    until(lambda: names <= noted(unpd), 10.0, lambda: f"all but {noted(unpd)} of {names}")
    unpd.wait_event("log.kept")
    unpd.wait_event("pool.resized")
    unpd.wait_event("reload.succeeded")
    unpd.metric_becomes(2, "unpd_workers", state="ready")
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    assert unpd.stop() == 0


def test_a_flood_of_real_time_signals_does_not_deafen_the_master(launch: Launch) -> None:
    """Real-time signals queue. When too many of one come, the kernel discards it for a
    while, and the master does its work.
    """
    unpd = launch()
    number = signal.SIGRTMIN + 5

    def discarded() -> bool:
        for _ in range(500):
            os.kill(unpd.pid, number)
            # Those that come together are one call of the handler; and a sender that
            # never pauses can hold a master that gets little of a processor.
            pause(0.001)
        return number in procs.signals(unpd.pid).ignored

    until(discarded, 20.0, "the signal to be discarded")
    assert status(unpd)["ready"]
    assert unpd.stop() == 0


@pytest.mark.slow
def test_a_flood_of_stray_signals_is_no_flood_of_lines(launch: Launch) -> None:
    """At most one line a second is written; each says how many were left out."""
    unpd = launch()
    began = time.monotonic()
    for _ in range(200):
        os.kill(unpd.pid, signal.SIGUSR2)
        pause(0.001)
    unpd.wait_event("signal.ignored", signal="SIGUSR2", suppressed=0)
    until(lambda: told(unpd), 10.0, "the number of those that were left out")
    assert len(unpd.log_events("signal.ignored")) <= time.monotonic() - began + 1


def told(unpd: Unpd) -> bool:
    """Send one more signal. Whether a line says that others were left out."""
    os.kill(unpd.pid, signal.SIGUSR2)
    return any(event.fields["suppressed"] > 0 for event in unpd.log_events("signal.ignored"))


@pytest.mark.parametrize(
    "number", [SIGQUIT, SIGTERM, signal.SIGRTMIN], ids=["QUIT", "TERM", "RTMIN"]
)
def test_an_order_that_is_not_the_masters_is_told(launch: Launch, number: int) -> None:
    """A worker obeys whoever may send it a signal. The log names that signal, and the
    master, which did not send it, starts another worker.
    """
    unpd = launch()
    workers = unpd.workers()
    os.kill(workers[0], number)
    died = unpd.wait_event("worker.died")
    name = signal.Signals(number).name
    assert died.fields["ended"] == f"exit code 0 after {name} from another process"
    assert unpd.wait_event("child.reaped").fields["ended"] == died.fields["ended"]
    unpd.metric_becomes(2, "unpd_workers", state="ready")
    unpd.stop()
    assert {event.fields["ended"] for event in unpd.log_events("child.reaped")[1:]} == {
        "exit code 0"
    }


# --- the fork -------------------------------------------------------------------------


@faults.requires_strace()
@pytest.mark.parametrize("number", [SIGTERM, SIGKILL], ids=["TERM", "KILL"])
@pytest.mark.parametrize(
    "window",
    ["clone:delay_exit=300000", "capset:delay_enter=600000"],
    ids=["unknown-to-its-parent", "without-handlers"],
)
def test_a_signal_to_a_newborn(
    launch: Launch, tmp_path: Path, window: str, number: Signals
) -> None:
    """A signal to a child between its fork and its own handlers, or before its parent
    knows it, ends at most that child. The parent does not take the signal for its own,
    reaps the child under its birth, and the worker comes back.
    """
    unpd = launch("[pools.default]\nworkers = 1\n")
    known = procs.child_pids(unpd.pid)
    with faults.straced(unpd.pid, tmp_path / "trace", "clone,capset", f"{window}:when=1"):
        procs.kill(unpd.workers())
        newborn = until(lambda: procs.child_pids(unpd.pid) - known, 5.0, "a newborn")
        if window.startswith("capset"):
            until(
                lambda: SIGHUP in procs.signals(min(newborn)).blocked,
                5.0,
                "the newborn with signals blocked",
            )
        procs.kill(newborn, number)
        unpd.wait_event("child.reaped", pid=min(newborn))
    unpd.metric_becomes(1, "unpd_workers", state="ready")
    assert not unpd.log_events("master.stopping")
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    unpd.stop()
    assert_reaped_is_spawned(unpd)


# --- the start ------------------------------------------------------------------------


@faults.requires_strace()
@pytest.mark.parametrize(
    "moment",
    first(
        5,
        [
            "memfd_create",
            "flock",
            "bind",
            "listen",
            "clone",
            "clone:when=3",
            "pidfd_open",
            "epoll_ctl",
            "/^epoll_p?wait$",
        ],
    ),
)
def test_term_during_the_start(launch: Launch, tmp_path: Path, moment: str) -> None:
    """TERM in any phase of the start, from the lock of the pid file to the wait for the
    first child, ends it cleanly: exit code 0, no file, no orphan, no port.
    """
    syscall, _, when = moment.partition(":")
    inject = f"{syscall}:signal=SIGTERM:{when or 'when=1'}"
    unpd = launch(prefix=faults.strace_prefix(tmp_path / "trace", syscall, inject), ready=False)
    assert unpd.wait_exit() == 0
    assert unpd.log_events("master.stopping"), unpd.log_text()
    assert_reaped_is_spawned(unpd)


@faults.requires_strace()
def test_term_before_the_program_took_over(launch: Launch, tmp_path: Path) -> None:
    """TERM during the start of the interpreter ends it by the signal, as any program,
    with nothing begun.
    """
    unpd = launch(
        prefix=faults.strace_prefix(tmp_path / "trace", "read", "read:signal=SIGTERM:when=2"),
        ready=False,
    )
    unpd.expect_exit(-SIGTERM)
    assert unpd.wait_exit() == -SIGTERM
    assert unpd.log_text() == ""
    assert not unpd.pid_file.exists()


# --- the end --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [SIGTERM, SIGINT], ids=["TERM", "INT"])
def test_a_storm_of_signals_while_workers_are_killed(launch: Launch, number: Signals) -> None:
    """Stop signals repeat until the end while workers are killed. The exit code is 0,
    no KeyboardInterrupt occurs, and no death is lost.
    """
    for _ in range(scale.many(20, at_least=2)):
        unpd = launch("[pools.default]\nworkers = 8\n")
        workers = unpd.workers()

        def strike(unpd: Unpd = unpd, workers: list[int] = workers) -> bool:
            unpd.signal(number)
            procs.kill(workers[:1])
            del workers[:1]
            return unpd.process.poll() is not None

        until(strike, 20.0, "the daemon to end")
        assert unpd.wait_exit() == 0
        assert "KeyboardInterrupt" not in unpd.stderr()
        assert_reaped_is_spawned(unpd)


SHORT_GRACE = """
[daemon]
grace_s = 4
"""


@pytest.mark.parametrize(
    "to_the_workers", [False, True], ids=["to-the-master", "to-the-workers-too"]
)
def test_term_lets_a_conversation_end(launch: Launch, to_the_workers: bool) -> None:
    """A client finishes its conversation after TERM, also where the workers received a
    TERM before (as when the whole group or cgroup gets one). Then the daemon ends with
    0, well within grace_s.
    """
    unpd = launch(SHORT_GRACE)
    with (
        clients.connect(unpd.address("echo")) as talking,
        clients.connect(unpd.address("echo")) as silent,
    ):
        for sock in (talking, silent):
            sock.send(b"before")
            assert clients.read_exactly(sock, 6) == b"before"
        began = time.monotonic()
        if to_the_workers:
            workers = unpd.workers()
            procs.kill(workers, SIGTERM)
            until(
                lambda: (
                    not any(
                        procs.alive(pid) and "draining" not in procs.title(pid) for pid in workers
                    )
                ),
                5.0,
                "all workers to drain",
            )
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping")
        for _ in range(10):
            talking.send(b"after")
            assert clients.read_exactly(talking, 5) == b"after"
            pause(0.05)  # less than the quarter of a second after which a client counts as quiet
        talking.shutdown(socket.SHUT_WR)
        assert clients.read_all(talking) == b""
        assert clients.read_all(silent) == b""
        silent.close()
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began < 4.0


def test_queued_clients_are_served_after_term_and_later_ones_are_not_accepted(
    launch: Launch,
) -> None:
    """Connections in the queue at TERM are served, however late the workers accept
    them. A later client is not accepted and then reset: it first gets no answer, then a
    refusal.
    """
    unpd = launch()
    with procs.stopped(unpd.workers()):
        queued = [clients.connect(unpd.address("echo")) for _ in range(50)]
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping")
        with pytest.raises(TimeoutError):
            clients.connect(unpd.address("echo"), timeout_s=0.3)
    for sock in queued:
        with sock:
            sock.send(b"hello")
            assert clients.read_exactly(sock, 5) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        clients.connect(unpd.address("echo"))
    assert unpd.wait_exit() == 0


def test_term_under_load(launch: Launch) -> None:
    """At full load TERM breaks no accepted connection. Each connection is served whole
    or refused, none is reset. The exit code is 0 within grace_s, and no orphan is left.
    """
    for _ in range(scale.many(40, at_least=2)):
        unpd = launch('[log]\nlevel = "info"\n')
        with loads.running(unpd.address("echo"), concurrency=CONCURRENCY) as client:
            client.more(300)
            assert unpd.stop(timeout_s=10.0) == 0
            result = client.stop()
        # A daemon without CAP_NET_ADMIN cannot filter the listener. One client may then
        # arrive between the last accept and the close.
        result.assert_clean(
            at_least=300, allow={"refused": result.attempts, "reset_before": int(os.geteuid() != 0)}
        )
        ends = unpd.log_events("child.reaped")
        assert [(end.fields["ended"], end.fields["connections_lost"]) for end in ends] == [
            ("exit code 0", 0)
        ] * 3


# --- all the time ---------------------------------------------------------------------

LOG_FILE = """
[log]
level = "info"
file = "{directory}/unpd.log"
"""


@pytest.mark.slow
def test_usr1_every_millisecond(public: Path, launch: Launch) -> None:
    """USR1 in every system call, under load and during reloads, changes nothing. No
    client notices, each reload succeeds, and no log line is broken.
    """
    unpd = launch(LOG_FILE.format(directory=public))
    reloads = 0
    end_at = time.monotonic() + scale.long(60, at_least=2)
    with loads.running(unpd.address("echo"), rate=500, concurrency=CONCURRENCY) as client:
        while time.monotonic() < end_at:
            send_request(unpd.control, verb="reload", all=True).close()
            reloads += 1
            until(
                lambda wanted=reloads: (  # type: ignore[misc]
                    storm(unpd) or len(unpd.log_events("reload.succeeded")) == wanted
                ),
                10.0,
                "the next reload",
            )
        client.more(100)
        client.stop().assert_clean(at_least=100)
    assert unpd.total("unpd_config_reloads_total", result="success") == reloads
    assert unpd.total("unpd_log_lines_dropped_total") == 0
    assert unpd.stop() == 0
    assert len(unpd.log_events()) == unpd.log_text().count("\n")
    assert len(unpd.log_events("log.reopened")) > 10


def storm(unpd: Unpd) -> bool:
    """Send SIGUSR1 a hundred times, once a millisecond."""
    for _ in range(100):
        unpd.signal(SIGUSR1)
        pause(0.001)
    return False
