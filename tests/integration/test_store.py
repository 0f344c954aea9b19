"""The descriptor store: listeners and scoreboard stay with the service manager. A crash
or a restart refuses no client, and counters go on.
"""

import os
import signal
import socket
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.ports import free_port
from tests.support.scale import first
from tests.support.waiting import until
from unpd.board import layout
from unpd.board import memory as sb
from unpd.kernel.handshakes import stop_new_handshakes

CONFIG = """
[services.echo]
listen = ["tcp://127.0.0.1:{port}", "unix://{path}"]

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a configuration with echo on a free port and a UNIX socket, and daytime on
    any port.
    """
    return CONFIG.format(port=free_port(), path=tmp_path / "echo.sock")


def start(launch: Launch, systemd: FakeSystemd, text: str, **options: Any) -> Unpd:
    """Start the daemon. Its UNIX sockets are expected to stay, because they are
    stored.
    """
    unpd = systemd.start(launch, text, **options)
    for address in unpd.addresses("echo"):
        if isinstance(address, str):
            unpd.expect_leftover(Path(address))
    return unpd


def by_name(systemd: FakeSystemd) -> dict[str, int]:
    """Return the stored descriptors by name. Assert that names are unique."""
    systemd.hear()
    found = dict(systemd.store)
    assert len(found) == len(systemd.store)
    return found


def inodes(systemd: FakeSystemd) -> dict[str, int]:
    """Return the inode of each stored listener, by its address."""
    found = {}
    for name, fd in by_name(systemd).items():
        if name != "unpd-scoreboard":
            with socket.socket(fileno=os.dup(fd)) as sock:
                where = sock.getsockname()
                found[where if isinstance(where, str) else f"{where[0]}:{where[1]}"] = os.fstat(
                    fd
                ).st_ino
    return found


def test_what_is_stored(launch: Launch, systemd: FakeSystemd, config: str) -> None:
    """Every listener that unpd bound and the scoreboard are stored, each under its own
    name. Names use only letters that systemd returns unchanged.
    """
    start(launch, systemd, config)
    systemd.wait("READY")
    names = by_name(systemd)
    assert len(names) == 5
    assert "unpd-scoreboard" in names
    assert all(set(name) <= {*string.ascii_letters, *string.digits, *"-_="} for name in names)
    assert os.fstat(names["unpd-scoreboard"]).st_size == layout.BOARD_BYTES


def test_a_crash_refuses_no_client(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """After SIGKILL of the master, clients queue on TCP and on the UNIX socket. The
    next daemon serves them on the same sockets and keeps the ports that the kernel
    chose.
    """
    first = start(launch, systemd, config)
    path = str(tmp_path / "echo.sock")
    where, daytime = first.address("echo"), first.address("daytime")
    assert clients.converse(where, b"before") == b"before"
    kept = inodes(systemd)
    systemd.kill(first)
    with clients.connect(where) as waiting, clients.connect(path) as local:
        for sock in (waiting, local):
            sock.sendall(b"patience")
            sock.shutdown(socket.SHUT_WR)
        second = start(launch, systemd, config)
        assert clients.read_all(waiting) == b"patience"
        assert clients.read_all(local) == b"patience"
    assert (second.address("echo"), second.address("daytime")) == (where, daytime)
    assert inodes(systemd) == kept
    assert clients.ask(daytime).endswith(b"\r\n")
    assert second.stop() == 0


def test_a_restart_refuses_no_client(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """A graceful stop leaves the stored listeners open and the UNIX socket's file in
    place. Clients that connect before the next daemon are served by it.
    """
    first = start(launch, systemd, config)
    path = tmp_path / "echo.sock"
    where = first.address("echo")
    assert first.stop() == 0
    with clients.connect(where) as waiting, clients.connect(str(path)) as local:
        for sock in (waiting, local):
            sock.sendall(b"patience")
            sock.shutdown(socket.SHUT_WR)
        second = start(launch, systemd, config)
        assert clients.read_all(waiting) == b"patience"
        assert clients.read_all(local) == b"patience"
    assert second.stop() == 0


@pytest.mark.parametrize("host", ["[::1]", "[::]"])
@pytest.mark.parametrize("more", first(1, ["", "ipv6_only = true\n"]))
def test_a_crash_refuses_no_client_of_ipv6(
    launch: Launch, systemd: FakeSystemd, host: str, more: str
) -> None:
    """A listener on an IPv6 address stays over a restart, whatever ipv6_only says:
    bind(2) sets that option itself for one address of a host.
    """
    text = f'[services.echo]\nlisten = ["tcp://{host}:0"]\n{more}'
    first = start(launch, systemd, text)
    port = first.port("echo")
    systemd.kill(first)
    with socket.create_connection(("::1", port), timeout=10.0) as waiting:
        waiting.sendall(b"patience")
        waiting.shutdown(socket.SHUT_WR)
        second = start(launch, systemd, text)
        assert clients.read_all(waiting) == b"patience"
    assert second.log_events("listener.dropped") == []
    assert second.stop() == 0


@pytest.mark.parametrize("crash", [True, False], ids=["crash", "restart"])
def test_counters_go_on(
    launch: Launch, systemd: FakeSystemd, config: str, *, crash: bool, tmp_path: Path
) -> None:
    """The next daemon continues the counters. Connections open at a crash are counted
    as worker_died, children not reaped as master_died.
    """
    first = start(launch, systemd, config)
    where = first.address("echo")
    for _ in range(5):
        assert clients.converse(where, b"12345678") == b"12345678"
    first.metric_becomes(5, "unpd_connections_ended_total", service="echo", cause="client_fin")
    with clients.connect(where) as sock:
        sock.sendall(b"x")
        assert clients.read_exactly(sock, 1) == b"x"
        first.metric_becomes(6, "unpd_connections_accepted_total", service="echo")
        first.metric_becomes(5 * 8 + 1, "unpd_received_bytes_total", service="echo")
        if crash:
            systemd.kill(first)
    if not crash:
        assert first.stop() == 0
    second = start(launch, systemd, config)
    assert clients.converse(where, b"12345678") == b"12345678"
    second.metric_becomes(7, "unpd_connections_accepted_total", service="echo")
    assert second.metric("unpd_connections_ended_total", service="echo", cause="worker_died") == (
        1 if crash else 0
    )
    second.metric_becomes(0, "unpd_connections_active", service="echo")
    assert second.metric("unpd_received_bytes_total", service="echo") == 6 * 8 + 1
    spawned = second.total("unpd_worker_spawns_total", pool="default")
    assert spawned == 4
    assert second.total("unpd_children_reaped_total", kind="worker") == 2
    assert second.metric("unpd_children_reaped_total", kind="worker", reason="master_died") == (
        2 if crash else 0
    )
    assert second.metric("unpd_children_reaped_total", kind="exporter", reason="master_died") == (
        1 if crash else 0
    )
    assert second.log_events("scoreboard.taken_over")
    assert second.stop() == 0


def test_a_service_keeps_its_column_over_restarts(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """When services are reordered and one is added in front, each count stays with its
    service.
    """
    first = start(launch, systemd, config)
    assert clients.converse(first.address("echo"), b"x") == b"x"
    first.metric_becomes(1, "unpd_connections_ended_total", service="echo", cause="client_fin")
    systemd.kill(first)
    head = config.partition("[services.daytime]")[0]
    second = start(
        launch, systemd, '[services.aaa]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:0"]\n' + head
    )
    assert second.metric("unpd_connections_accepted_total", service="echo") == 1
    assert second.metric("unpd_connections_accepted_total", service="aaa") == 0
    assert second.metric("unpd_connections_accepted_total", service="daytime") == 0
    assert second.stop() == 0


def test_a_reload_removes_what_it_closes(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """A listener that a reload removes is removed from the store, so its address is
    free at once, and its file is gone. An added listener is stored.
    """
    unpd = start(launch, systemd, config)
    before = set(inodes(systemd))
    path = tmp_path / "echo.sock"
    port = unpd.port("echo")
    text = unpd.config_path.read_text()
    assert (
        reload(
            unpd, text.replace(f'"tcp://127.0.0.1:{port}", "unix://{path}"', '"tcp://127.0.0.2:0"')
        )
        == 2
    )
    after = set(inodes(systemd))
    assert before - after == {f"127.0.0.1:{port}", str(path)}
    assert len(after - before) == 1
    assert not path.exists()
    until(lambda: clients.refuses(port), 5.0, "the old generation to close it too")
    assert unpd.stop() == 0


def test_a_changed_configuration_ends_what_it_no_longer_wants(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """A stored listener that the next start's configuration does not want is closed and
    removed from the store, and the log says so.
    """
    first = start(launch, systemd, config)
    port = first.port("echo")
    systemd.kill(first)
    second = start(launch, systemd, config.replace(f'"tcp://127.0.0.1:{port}", ', ""))
    assert [event.fields["address"] for event in second.log_events("listener.closed")] == [
        f"tcp://127.0.0.1:{port}"
    ]
    assert f"127.0.0.1:{port}" not in inodes(systemd)
    assert clients.refuses(port)
    assert second.stop() == 0


def test_a_file_that_is_gone_is_made_again(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """When a UNIX socket's file was deleted while its listener was stored, the socket
    is bound again.
    """
    first = start(launch, systemd, config)
    path = tmp_path / "echo.sock"
    systemd.kill(first)
    path.unlink()
    second = start(launch, systemd, config)
    assert clients.converse(str(path), b"found") == b"found"
    assert second.stop() == 0


def damaged_layout(words: memoryview) -> None:
    """Change the fingerprint, as of a program with other counters."""
    words[layout.Master.LAYOUT] += 1


def damaged_magic(words: memoryview) -> None:
    """Change the magic number."""
    words[layout.Master.MAGIC] = 0


def damaged_names(words: memoryview) -> None:
    """Damage the names of services, as a faulty worker could."""
    words[layout.Board.SERVICE_NAMES] = 0xFF


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damaged_layout, "it is of another layout"),
        (damaged_magic, "it is of another layout"),
        (damaged_names, "the names of its services are damaged"),
    ],
)
def test_a_board_of_another_layout_is_dropped(
    launch: Launch,
    systemd: FakeSystemd,
    config: str,
    damage: Callable[[memoryview], None],
    reason: str,
) -> None:
    """The next daemon logs the reason, starts at zero, and stores its own board."""
    first = start(launch, systemd, config)
    assert clients.converse(first.address("echo"), b"x") == b"x"
    systemd.kill(first)
    damage(sb.Scoreboard(by_name(systemd)["unpd-scoreboard"]).words)
    before = os.fstat(by_name(systemd)["unpd-scoreboard"]).st_ino
    second = start(launch, systemd, config)
    assert [event.fields["reason"] for event in second.log_events("scoreboard.dropped")] == [reason]
    assert second.metric("unpd_connections_accepted_total", service="echo") == 0
    assert os.fstat(by_name(systemd)["unpd-scoreboard"]).st_ino != before
    assert second.stop() == 0


def test_a_board_of_another_size_is_dropped(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """A board of another size, as of an older layout, is not even mapped."""
    fd = os.memfd_create("board")
    os.ftruncate(fd, 4096)
    systemd.store.append(("unpd-scoreboard", fd))
    unpd = start(launch, systemd, config)
    assert [event.fields["reason"] for event in unpd.log_events("scoreboard.dropped")] == [
        "it is of another size"
    ]
    assert unpd.stop() == 0


def a_pipe() -> int:
    """A descriptor that is no socket."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def a_datagram_socket() -> int:
    """A datagram socket without an address."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()


def a_socket_that_does_not_listen() -> int:
    """A stream socket without listen(2)."""
    return socket.socket().detach()


def a_listener() -> int:
    """A listener on a free port."""
    return socket.create_server(("127.0.0.1", 0)).detach()


@pytest.mark.parametrize(
    ("name", "make"),
    first(
        3,
        [
            ("unpd-stored-listener-0123456789abcdef-0", a_pipe),
            ("unpd-stored-listener-0123456789abcdef-0", a_datagram_socket),
            ("unpd-stored-listener-0123456789abcdef-0", a_socket_that_does_not_listen),
            ("unpd-stored-listener", a_listener),
            ("unpd-stored-listener--", a_listener),
            ("unpd-stored-of-the-future", a_listener),
            ("unpd-scoreboard-of-the-future", a_pipe),
            ("stored", a_pipe),
            ("stored", a_listener),
        ],
    ),
)
def test_nonsense_in_the_store_is_no_obstacle(
    launch: Launch,
    systemd: FakeSystemd,
    config: str,
    name: str,
    make: Callable[[], int],
) -> None:
    """An item of the store that is of no use is closed, removed from the store and
    logged, and the listeners are bound.
    """
    systemd.store.append((name, make()))
    unpd = start(launch, systemd, config)
    assert [event.fields["item"] for event in unpd.log_events("listener.dropped")] == [name]
    assert name not in by_name(systemd)
    assert clients.converse(unpd.address("echo"), b"served") == b"served"
    assert unpd.stop() == 0


def test_a_tcp_listener_with_an_inode_is_no_obstacle(
    launch: Launch, systemd: FakeSystemd, config: str
) -> None:
    """The name of a stored TCP listener that speaks of a file is nonsense too."""
    first = start(launch, systemd, config)
    systemd.kill(first)
    name = next(name for name, _ in systemd.store if "listener" in name and name.endswith("-0"))
    systemd.store[:] = [
        (f"{old[:-1]}5", fd) if old == name else (old, fd) for old, fd in systemd.store
    ]
    unpd = start(launch, systemd, config)
    assert len(unpd.log_events("listener.dropped")) == 1
    assert unpd.stop() == 0


def test_a_listener_in_the_place_of_the_scoreboard_holds_no_address(
    launch: Launch, systemd: FakeSystemd
) -> None:
    """It is closed before any listener is opened: it may have the address of one."""
    port = free_port()
    sock = socket.create_server(("127.0.0.1", port))
    systemd.store.append(("unpd-scoreboard", sock.detach()))
    text = f'[metrics]\nlisten = false\n[services.echo]\nlisten = ["tcp://127.0.0.1:{port}"]\n'
    unpd = start(launch, systemd, text)
    assert unpd.log_events("scoreboard.dropped")
    assert clients.converse(("127.0.0.1", port), b"served") == b"served"
    assert unpd.stop() == 0


@pytest.mark.slow
def test_a_listener_that_was_stored_twice_is_stored_again(
    launch: Launch, systemd: FakeSystemd, config: str
) -> None:
    """Of two stored listeners of one name one serves, and only that is stored
    afterwards: a crash refuses no client.
    """
    first = start(launch, systemd, config)
    where = first.address("echo")
    kept = inodes(systemd)
    systemd.kill(first)
    name = next(name for name in by_name(systemd) if name != "unpd-scoreboard")
    systemd.store.append((name, a_listener()))
    second = start(launch, systemd, config)
    assert second.log_events("listener.dropped")
    until(lambda: inodes(systemd) == kept, 5.0, "the store to have each listener once")
    assert clients.converse(where, b"served") == b"served"
    assert second.stop() == 0


def test_without_a_store_the_daemon_closes_everything(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """In a unit without FileDescriptorStoreMax= nothing is left behind, as without a
    service manager.
    """
    unpd = start(launch, systemd, config, stores=False)
    systemd.wait("READY")
    assert unpd.stop() == 0
    assert by_name(systemd) == {}
    assert not (tmp_path / "echo.sock").exists()


@pytest.mark.slow
def test_a_store_keeps_signals_and_deaths_counted(
    launch: Launch, systemd: FakeSystemd, config: str
) -> None:
    """Counters that only the master writes go on after a restart."""
    first = start(launch, systemd, config)
    procs.kill(first.workers(), signal.SIGKILL)
    first.metric_becomes(2, "unpd_children_reaped_total", kind="worker", reason="sigkill")
    first.metric_becomes(2, "unpd_workers", kind="worker", pool="default", state="ready")
    assert reload(first, every_pool=True) == 2
    calls = until(
        lambda: first.metric("unpd_sigchld_total"),
        5.0,
        "the master's next sample of its own figures",
    )
    systemd.kill(first)
    second = start(launch, systemd, config)
    assert second.metric("unpd_sigchld_total") >= calls
    assert second.metric("unpd_config_reloads_total", result="success") == 1
    assert second.metric("unpd_children_reaped_total", kind="worker", reason="sigkill") == 2
    assert second.stop() == 0


# what an earlier daemon left behind


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('listen = ["tcp://127.0.0.1:{port}"]', 'listen = ["tcp://0.0.0.0:{port}"]'),
        ('listen = ["tcp://[::]:{port}"]', 'listen = ["tcp://[::]:{port}"]\nipv6_only = true'),
    ],
    ids=["address", "ipv6_only"],
)
def test_a_changed_address_is_free_at_the_restart(
    launch: Launch, systemd: FakeSystemd, before: str, after: str
) -> None:
    """A stored listener that is no longer wanted is closed, in the service manager too,
    before another one binds its port.
    """
    port = free_port()
    first = start(launch, systemd, "[services.echo]\n" + before.format(port=port))
    assert clients.converse(("127.0.0.1", port), b"x") == b"x"
    systemd.kill(first)
    second = start(launch, systemd, "[services.echo]\n" + after.format(port=port))
    assert second.port("echo") == port
    assert second.stop() == 0


def test_a_leftover_filter_is_removed(launch: Launch, systemd: FakeSystemd) -> None:
    """A listener that its last owner closed to new connections, without removing it
    from the store, accepts connections again.
    """
    first = start(launch, systemd, "[services.echo]\nlisten = ['tcp://127.0.0.1:0']\n")
    where = first.address("echo")
    systemd.kill(first)
    for name, fd in by_name(systemd).items():
        if name != "unpd-scoreboard":
            with socket.socket(fileno=os.dup(fd)) as sock:
                stop_new_handshakes(sock)
    second = start(launch, systemd, "[services.echo]\nlisten = ['tcp://127.0.0.1:0']\n")
    assert second.address("echo") == where
    assert clients.converse(where, b"again") == b"again"
    assert second.stop() == 0


def test_a_replaced_socket_file_is_bound_again(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """When a UNIX socket's file was replaced while its listener was stored, clients
    could not reach the listener. It is bound again.
    """
    first = start(launch, systemd, config)
    path = tmp_path / "echo.sock"
    systemd.kill(first)
    path.rename(tmp_path / "moved.sock")  # keeps the inode from being reused
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    second = start(launch, systemd, config)
    assert clients.converse(str(path), b"found") == b"found"
    assert second.stop() == 0


def test_the_file_of_an_unwanted_listener_is_removed(
    launch: Launch, systemd: FakeSystemd, config: str, tmp_path: Path
) -> None:
    """When the next configuration has no UNIX listener, neither the stored listener nor
    its file stays.
    """
    first = start(launch, systemd, config)
    path = tmp_path / "echo.sock"
    systemd.kill(first)
    assert path.is_socket()
    second = start(launch, systemd, config.replace(f', "unix://{path}"', ""))
    assert not path.exists()
    assert second.stop() == 0


@pytest.mark.slow
def test_counters_that_would_overflow_start_again(launch: Launch, systemd: FakeSystemd) -> None:
    """Nonsense that a faulty worker wrote into the master's words stops neither the
    next master nor the one after.
    """
    text = "[services.echo]\nlisten = ['tcp://127.0.0.1:0']\n"
    first = start(launch, systemd, text)
    systemd.kill(first)
    words = sb.Scoreboard(by_name(systemd)["unpd-scoreboard"]).words
    for at in (
        layout.Master.SIGCHLD,
        layout.Master.LOG_DROPPED,
        layout.Master.UNKNOWN_REAPED,
        layout.Master.FORK_FAILURES,
    ):
        words[at] = 2**64 - 1
    words[layout.Master.ROWS_USED] = 2**64 - 1
    second = start(launch, systemd, text)
    procs.kill(second.workers(), signal.SIGKILL)
    second.metric_becomes(2, "unpd_children_reaped_total", kind="worker", reason="sigkill")
    until(
        lambda: 0 < second.metric("unpd_sigchld_total") < 100,
        5.0,
        "the master's next sample of its own figures",
    )
    assert words[layout.Master.ROWS_USED] < 10
    assert second.stop() == 0


@pytest.mark.slow
def test_a_service_manager_that_reads_nothing_delays_the_start_once(
    launch: Launch, systemd: FakeSystemd
) -> None:
    """While the service manager does not read, its queue is full. The start waits once,
    not once per listener. Later READY arrives, and everything is stored.
    """
    flood = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    flood.connect(systemd.path)
    try:
        while True:
            flood.send(b"X_FLOOD=1")
    except BlockingIOError:
        flood.close()
    listen = ", ".join(['"tcp://127.0.0.1:0"'] * 10)
    began = time.monotonic()
    unpd = launch(
        f"[services.echo]\nlisten = [{listen}]\n",
        env={"NOTIFY_SOCKET": systemd.path, "FDSTORE": "512"},
    )
    assert time.monotonic() - began < 6.0
    assert len(systemd.store) == 0
    systemd.wait("READY", "1")
    until(
        lambda: len(by_name(systemd)) >= 11, 10.0, "ten listeners and the exporter's to be stored"
    )
    assert unpd.stop() == 0
