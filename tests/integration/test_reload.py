"""A reload: the new configuration proves itself before the old one drains. A refused
configuration changes nothing.
"""

import contextlib
import re
import socket
import stat
import time
from pathlib import Path
from signal import SIGHUP, SIGTTIN, SIGTTOU

import pytest

from tests.support import clients, faults, loads, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import (
    ask,
    descriptors,
    read_answer,
    reconfigure,
    refused_reload,
    reload,
    send_request,
)
from tests.support.ports import free_port
from tests.support.scale import many
from tests.support.waiting import until
from unpd.core.converge import MAX_RETIRED_GENERATIONS

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

BOTH = (
    ECHO
    + """
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""
)

BROKEN: dict[str, tuple[bytes, str]] = {
    "a syntax error": (b"[daemon]\ngrace_s = = 1\n", ":2: not valid TOML"),
    "an unknown key": (
        b'[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nbaklog = 5\n',
        ":3: services.echo.baklog: ",
    ),
    "a wrong type": (
        b'[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nbacklog = "5"\n',
        ":3: services.echo.backlog: ",
    ),
    "an empty file": (b"", ": no service is configured"),
    "a binary file": (bytes(range(256)) * 10, ": this is a binary file"),
    "a huge file": (b"# nothing\n" * 200_000, ": the file has 2000000 bytes"),
    "deep nesting": (b"a = " + b"[" * 5000, ": the nesting is too deep"),
    "a deep key": (b"a" + b".a" * 4000 + b" = 1\n", ":1: a key has more than 8 dots"),
    "not UTF-8": (b'[log]\nfile = "\xff\xfe"\n', ":2: the text is not UTF-8"),
}


def listener_inode(port: int) -> str:
    """Return the inode of the socket that listens on ``port`` (proc(5),
    /proc/net/tcp).
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next(
        row[9] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port
    )


def generations(unpd: Unpd) -> dict[int, int]:
    """Return the generation of each living worker, by its title."""
    found = (
        (child.pid, re.search(r"generation (\d+)$", child.title))
        for child in procs.children(unpd.pid)
        if child.title.startswith("unpd: worker")
    )
    return {pid: int(match[1]) for pid, match in found if match}


def wait_drained(unpd: Unpd, old: set[int]) -> None:
    """Wait until each of the workers ``old`` drains (it accepts no more) or is gone."""

    def serving() -> list[str]:
        return [
            child.title
            for child in procs.children(unpd.pid)
            if child.pid in old and " draining," not in child.title and not child.zombie
        ]

    until(lambda: not serving(), 10.0, lambda: f"{serving()} to drain")


# what is refused


def test_a_refused_configuration_changes_nothing_and_says_where_it_is_wrong(launch: Launch) -> None:
    """Whatever is wrong with the file, ``unpd reload`` fails with file and line. The
    old configuration goes on serving, and the metrics count the refusal.
    """
    unpd = launch(BOTH)
    children, open_before = (
        {child.pid for child in procs.children(unpd.pid)},
        descriptors(unpd, births=3),
    )
    with loads.running(unpd.address("echo"), rate=200) as load:
        for name, (content, complaint) in BROKEN.items():
            reason = refused_reload(unpd, content)
            assert reason.startswith("unpd: reload failed: "), name
            assert f"{unpd.config_path}{complaint}" in reason, (name, reason)
            assert "Traceback" not in reason, name
        load.more(50)
        result = load.stop()
    result.assert_clean(at_least=50)
    assert unpd.metric("unpd_config_reloads_total", result="refused") == len(BROKEN)
    assert unpd.metric("unpd_config_reloads_total", result="success") == 0
    assert unpd.metric("unpd_config_last_reload_successful") == 0
    assert unpd.metric("unpd_generation") == 1
    assert {child.pid for child in procs.children(unpd.pid)} == children
    until(
        lambda: len(procs.fds(unpd.pid)) == open_before,
        10.0,
        "the master's descriptors to be as many as before",
    )
    assert len(unpd.log_events("reload.refused", level="error")) == len(BROKEN)


def test_every_fault_of_the_file_is_reported_at_once(launch: Launch) -> None:
    """A refused reload names every fault with its line and a suggestion."""
    unpd = launch(ECHO)
    reason = refused_reload(
        unpd,
        b'[services.echo]\nlisten = ["tcp://localhost:7"]\nbaklog = 1\n\n[log]\nlevle = "info"\n',
    )
    assert [f"unpd.toml:{line}: " in reason for line in (2, 3, 6)] == [True] * 3, reason
    assert reason.count("did you mean") == 2


def test_a_half_written_file_is_refused_and_the_whole_one_taken(launch: Launch) -> None:
    """A half-written file, of a writer that does not rename, is refused. The next
    reload succeeds, and the metric says so.
    """
    unpd = launch(ECHO)
    whole = unpd.config_path.read_bytes()
    unpd.config_path.write_bytes(whole[: whole.index(b"control.sock")])
    reason = refused_reload(unpd)
    assert "unpd.toml:" in reason
    assert unpd.metric("unpd_config_last_reload_successful") == 0
    before = unpd.metric("unpd_config_last_reload_success_timestamp_seconds")
    unpd.config_path.write_bytes(whole)
    assert reload(unpd) == 2
    unpd.metric_becomes(1, "unpd_config_last_reload_successful")
    assert unpd.metric("unpd_config_last_reload_success_timestamp_seconds") > before


def test_listeners_are_added_all_or_none(launch: Launch, tmp_path: Path) -> None:
    """When one added listener cannot bind, the others that the same reload added are
    closed again. The old ones go on.
    """
    unpd = launch(ECHO)
    free, path = free_port(), tmp_path / "new.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = refused_reload(
            unpd,
            f"""
            [services.echo]
            listen = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:{free}", "unix://{path}"]

            [services.daytime]
            listen = ["tcp://127.0.0.1:{port}"]
            """.replace("            ", ""),
        )
        assert (
            f"service daytime cannot listen on tcp://127.0.0.1:{port}: the address is in use"
            in reason
        )
        assert clients.refuses(free)
        assert not path.exists()
        assert clients.converse(unpd.address("echo"), b"as before") == b"as before"
    assert reload(unpd) == 2
    assert clients.converse(("127.0.0.1", free), b"new") == b"new"


def test_what_only_a_restart_can_change_is_refused(launch: Launch) -> None:
    """A reload refuses another user, group, pid file, control socket, log file or log
    format, because they need a restart. It changes nothing.
    """
    unpd = launch(ECHO)
    changes = {
        "daemon.user": '[daemon]\nuser = "daemon"\n',
        "daemon.group": '[daemon]\ngroup = "daemon"\n',
        "daemon.pid_file": f'[daemon]\npid_file = "{unpd.directory}/other.pid"\n',
        "daemon.control": f'[daemon]\ncontrol = "{unpd.directory}/other.sock"\n',
        "log.file": f'[log]\nfile = "{unpd.directory}/other.log"\n',
        "log.format": '[log]\nformat = "text"\n',
    }
    for key, text in changes.items():
        assert f"{key} cannot be changed by a reload: restart unpd" in refused_reload(
            unpd, text + ECHO
        )
    assert not list(unpd.directory.glob("other*"))
    assert reload(unpd, ECHO) == 2


@faults.requires_strace()
@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [("capset", "EPERM", "cannot drop privileges"), ("clone", "EAGAIN", "fork failed")],
)
def test_a_generation_that_cannot_start_leaves_the_old_one(
    launch: Launch, tmp_path: Path, call: str, error: str, reason: str
) -> None:
    """When the new workers fail to start, the reload fails with their reason and closes
    what it added. The next valid reload succeeds.
    """
    unpd = launch(ECHO)
    old, free, path = set(unpd.workers()), free_port(), tmp_path / "new.sock"
    open_before = descriptors(unpd, births=3)
    unpd.expect_errors("worker.failed", "exporter.failed", "fork.failed")
    with faults.straced(unpd.pid, tmp_path / "trace", call, f"{call}:error={error}"):
        assert reason in refused_reload(
            unpd,
            f'[services.echo]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:{free}", "unix://{path}"]\n',
        )
        until(lambda: set(unpd.workers()) == old, 10.0, "the failed generation to go")
    until(
        lambda: clients.refuses(free), 5.0, "the listener of the last dying worker to be closed"
    )  # it loses its title before its descriptors
    assert not path.exists()
    assert clients.converse(unpd.address("echo"), b"as before") == b"as before"
    until(
        lambda: len(procs.fds(unpd.pid)) == open_before,
        10.0,
        "the master's descriptors to be as many as before",
    )
    assert reload(unpd) == 3
    assert clients.converse(("127.0.0.1", free), b"new") == b"new"
    assert unpd.metric("unpd_config_last_reload_successful") == 1


# what changes


def test_a_changed_backlog_keeps_the_listener(launch: Launch) -> None:
    """A new backlog is a second listen on the same socket. Its inode stays and its
    limit changes.
    """
    unpd = launch(ECHO + "backlog = 100\n")
    port = unpd.port("echo")
    inode = listener_inode(port)
    listener = f"tcp://127.0.0.1:{port}"
    unpd.metric_becomes(100, "unpd_listen_queue_limit", service="echo", listener=listener)
    assert reload(unpd, ECHO + "backlog = 50\n") == 2
    unpd.metric_becomes(50, "unpd_listen_queue_limit", service="echo", listener=listener)
    assert listener_inode(port) == inode
    assert clients.converse(("127.0.0.1", port), b"same") == b"same"


def test_a_changed_socket_mode_is_taken(launch: Launch, tmp_path: Path) -> None:
    """A reload changes the mode of a UNIX listener's file, and the file stays the
    same.
    """
    path = tmp_path / "echo.sock"
    echo = f'[services.echo]\nlisten = ["unix://{path}"]\n'
    unpd = launch(echo + 'socket_mode = "0666"\n')
    inode = path.stat().st_ino
    assert reload(unpd, echo + 'socket_mode = "0600"\n') == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino == inode


def test_a_changed_ipv6_only_is_refused(launch: Launch) -> None:
    """``ipv6_only`` of a listener that stays cannot change, and the reload says so."""
    port = free_port()
    echo = f'[services.echo]\nlisten = ["tcp://[::]:{port}"]\n'
    unpd = launch(echo)
    reason = refused_reload(unpd, echo + "ipv6_only = true\n")
    assert f"tcp://[::]:{port}" in reason
    assert "restart" in reason
    assert clients.converse(("127.0.0.1", port), b"both") == b"both"


def test_ipv6_only_of_one_address_means_nothing(launch: Launch) -> None:
    """``ipv6_only`` changes nothing for one IPv6 address, and a reload takes it."""
    echo = f'[services.echo]\nlisten = ["tcp://[::1]:{free_port()}"]\n'
    unpd = launch(echo)
    assert reload(unpd, echo + "ipv6_only = true\n") == 2


def test_services_come_and_go(launch: Launch) -> None:
    """An added service serves. A removed one wait_drained: its session goes on, new
    connections are refused, and its port is free.
    """
    unpd = launch(ECHO)
    port = unpd.port("echo")
    with clients.connect(("127.0.0.1", port)) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        assert reload(unpd, '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n') == 2
        assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
        until(lambda: clients.refuses(port), 10.0, "the removed service's port to be closed")
        session.sendall(b"after")
        assert clients.read_exactly(session, 5) == b"after"
        assert unpd.metric("unpd_connections_active", service="echo") == 1
    with socket.create_server(("127.0.0.1", port)):
        unpd.metric_becomes(0, "unpd_connections_active", service="echo")
    assert (
        unpd.wait_event("connection.ended", service="echo", received=11).fields["cause"]
        == "client_fin"
    )


def test_pools_come_and_change(launch: Launch) -> None:
    """A reload gives pools their new number of workers, and a service its new pool."""
    unpd = launch(BOTH)
    text = "[pools.default]\nworkers = 3\n\n[pools.slow]\nworkers = 1\n" + BOTH + 'pool = "slow"\n'
    assert reload(unpd, text) == 2

    def places() -> list[str]:
        return sorted(
            child.title.split()[2]
            for child in procs.children(unpd.pid)
            if child.title.startswith("unpd: worker")
        )

    until(
        lambda: places() == ["default/0", "default/1", "default/2", "slow/0"],
        10.0,
        lambda: f"the new pools; there are {places()}",
    )
    assert clients.ask(unpd.address("daytime"))
    pid = unpd.wait_event("connection.ended", service="daytime").fields["pid"]
    title = procs.stat(pid)
    assert title is not None
    assert " slow/0 " in title.title
    assert unpd.metric("unpd_workers", kind="worker", pool="slow", state="ready") == 1


def test_ttin_and_ttou_change_the_default_pool(launch: Launch) -> None:
    """TTIN adds one worker, TTOU removes one, but never the last. The connections of a
    removed worker are drained, not cut.
    """
    unpd = launch(ECHO)
    unpd.signal(SIGTTIN)
    unpd.metric_becomes(3, "unpd_workers", kind="worker", pool="default", state="ready")
    unpd.metric_becomes(3, "unpd_workers_wanted", pool="default")
    with clients.idle(unpd.address("echo"), 12) as sessions:
        unpd.metric_becomes(12, "unpd_connections_active", service="echo")
        for left in (2, 1):
            unpd.signal(SIGTTOU)
            unpd.metric_becomes(left, "unpd_workers", kind="worker", pool="default", state="ready")
        unpd.signal(SIGTTOU)
        unpd.wait_event("pool.not_resized", workers=1)
        for session in sessions:
            session.sendall(b"still here")
            assert clients.read_exactly(session, 10) == b"still here"
        assert unpd.metric("unpd_workers", kind="worker", pool="default", state="ready") == 1
    until(lambda: len(unpd.workers()) == 1, 10.0, "the surplus workers to leave")


def test_the_metrics_can_move(launch: Launch) -> None:
    """A reload moves the exporter to another address without losing a count, closes the
    old address, and can switch the exporter off. It is refused if another program has
    the address, and the exporter stays where it was.
    """
    unpd = launch(ECHO)
    old = unpd.port("metrics")
    assert clients.converse(unpd.address("echo"), b"counted") == b"counted"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        reason = refused_reload(unpd, f'[metrics]\nlisten = "{taken}"\n' + ECHO)
        assert f"the metrics exporter cannot listen on {taken}: the address is in use" in reason
        assert unpd.metric("unpd_connections_accepted_total", service="echo") == 1
    new = free_port()
    assert reload(unpd, f'[metrics]\nlisten = "tcp://127.0.0.1:{new}"\n' + ECHO) == 2
    assert unpd.port("metrics", -1) == new
    assert unpd.metric("unpd_connections_accepted_total", service="echo") == 1
    until(lambda: clients.refuses(old), 10.0, "the old address to be closed")
    assert reload(unpd, "[metrics]\nlisten = false\n" + ECHO) == 3
    until(lambda: clients.refuses(new) and unpd.exporter() is None, 10.0, "the exporter to go")
    assert clients.converse(unpd.address("echo"), b"served") == b"served"


def test_the_log_level_follows_the_configuration(launch: Launch) -> None:
    """A reload changes the log level of the master and of the workers."""
    unpd = launch('[log]\nlevel = "info"\n' + ECHO)
    assert clients.converse(unpd.address("echo"), b"quiet") == b"quiet"
    assert reload(unpd, '[log]\nlevel = "debug"\n' + ECHO) == 2
    drained = {pid for pid, generation in generations(unpd).items() if generation == 1}
    until(lambda: not drained & set(unpd.workers()), 10.0, "the old generation to go")
    assert clients.converse(unpd.address("echo"), b"talkative") == b"talkative"
    assert unpd.wait_event("connection.ended").fields["received"] == 9


# generations


@pytest.mark.slow
def test_sessions_outlive_a_reload_until_their_grace_is_over(launch: Launch) -> None:
    """Echo sessions go on in the old generation for ``reload_grace_s`` and then get a
    FIN. Later clients are served by the new generation only.
    """
    grace_s = 1.5
    unpd = launch(f"[daemon]\nreload_grace_s = {grace_s}\n" + ECHO)
    old = set(unpd.workers())
    with clients.idle(unpd.address("echo"), 20) as sessions:
        unpd.metric_becomes(20, "unpd_connections_active", service="echo")
        began = time.monotonic()
        assert reload(unpd, every_pool=True) == 2
        wait_drained(unpd, old)
        assert set(generations(unpd).values()) == {1, 2}
        for _ in range(10):
            assert clients.converse(unpd.address("echo"), b"new") == b"new"
        served_by = {
            unpd.wait_event("connection.ended", service="echo", received=3, after=number).fields[
                "pid"
            ]
            for number in range(10)
        }
        assert not served_by & old
        for session in sessions:
            session.sendall(b"on and on")
            assert clients.read_exactly(session, 9) == b"on and on"
        assert clients.read_all(sessions[0]) == b""
        assert time.monotonic() - began >= grace_s
        assert [clients.read_all(session) for session in sessions] == [b""] * 20
    until(lambda: not old & set(unpd.workers()), 10.0, "the old generation to leave")
    assert unpd.metric("unpd_connections_ended_total", service="echo", cause="shutdown") == 20


def test_the_drains_of_two_reloads_go_on_side_by_side(launch: Launch) -> None:
    """While sessions of one generation drain, the next reload lets them go on, and is
    not held up by them.
    """
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        sessions = []
        for generation in (2, 3):
            old = set(unpd.workers())
            session = stack.enter_context(clients.connect(unpd.address("echo")))
            session.sendall(b"1")
            assert clients.read_exactly(session, 1) == b"1"
            sessions.append(session)
            assert reload(unpd, every_pool=True) == generation
            wait_drained(unpd, old)
        assert set(generations(unpd).values()) == {1, 2, 3}
        for session in sessions:
            session.sendall(b"still")
            assert clients.read_exactly(session, 5) == b"still"


def test_reloads_that_come_during_a_reload_become_one(launch: Launch) -> None:
    """Of thirty reloads of every pool that are requested at once only a few run, and
    each request gets an answer. A HUP counts as one of them.
    """
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        with procs.stopped([unpd.pid]):
            waiting = [
                stack.enter_context(
                    contextlib.closing(send_request(unpd.control, verb="reload", all=True))
                )
                for _ in range(30)
            ]
            unpd.signal(SIGHUP)
        answers = [read_answer(sock) for sock in waiting]
    assert all(answer["ok"] for answer in answers), answers
    done = len(unpd.log_events("reload.succeeded"))
    assert 2 <= done <= 15
    assert {answer["generation"] for answer in answers} <= set(range(2, done + 2))


def test_many_reloads_leave_nothing_behind(launch: Launch) -> None:
    """After many reloads the master has the same number of descriptors and about the
    same memory as after the first, and one generation lives.
    """
    unpd = launch(BOTH)
    reload(unpd, every_pool=True)

    def settled() -> bool:
        return len(unpd.workers()) == 2 and len(procs.children(unpd.pid)) == 3

    until(settled, 10.0, "one generation")
    open_before, resident = descriptors(unpd, births=6), procs.rss_bytes(unpd.pid)
    count = many(200, at_least=15)
    for _ in range(count):
        reload(unpd, every_pool=True)
        assert len(set(generations(unpd).values())) <= MAX_RETIRED_GENERATIONS + 2
    until(settled, 10.0, "one generation")
    until(
        lambda: len(procs.fds(unpd.pid)) == open_before,
        10.0,
        "the master's descriptors to be as many as before",
    )
    assert procs.rss_bytes(unpd.pid) < resident + (4 << 20)
    assert unpd.metric("unpd_config_reloads_total", result="success") == count + 1
    assert unpd.metric("unpd_generation") == count + 2
    assert unpd.total("unpd_workers") == 2


def test_a_hangup_reloads(launch: Launch) -> None:
    """SIGHUP does what ``unpd reload`` does, and the log has the answer."""
    unpd = launch(ECHO)
    reconfigure(unpd, BOTH)
    unpd.signal(SIGHUP)
    unpd.wait_event("reload.succeeded", generation=2)
    assert clients.ask(unpd.address("daytime"))
    reconfigure(unpd, b"nonsense")
    unpd.expect_errors("reload.refused")
    unpd.signal(SIGHUP)
    assert "unpd.toml:1: " in unpd.wait_event("reload.refused").fields["reason"]
    assert ask(unpd.control, verb="status")["status"]["generation"] == 2
