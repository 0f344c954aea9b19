"""Listeners: which clients an address serves, which starts are refused with which
sentence, and how files of UNIX sockets are treated.
"""

import contextlib
import ctypes
import os
import platform
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.faults import namespace, requires_namespaces, requires_ss_kill, ss_kill
from tests.support.launch import Launch
from tests.support.operating import ask, degraded, refused_reload, reload, status
from tests.support.ports import free_port
from tests.support.waiting import until
from unpd.config.addresses import UnixAddress
from unpd.errors import AddressError
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import WantedListener
from unpd.master.listening.sources import ListenerSources
from unpd.names import METRICS, ExitCode

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22
SECCOMP_MODE_FILTER = 2
CAP_NET_BIND_SERVICE = 10
EAFNOSUPPORT = 97
PIDFD_GETFD = 438
"""The number of pidfd_getfd(2) on every architecture."""
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
"""The number of socket(2) by architecture."""


def echoes(address: clients.Address) -> bool:
    """Whether an echo answers at ``address``; False if the connection is refused."""
    try:
        return clients.converse(address, b"anybody?") == b"anybody?"
    except ConnectionRefusedError:
        return False


def prctl(*words: object) -> None:
    """Change an attribute of this process (see the man page). OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*words) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


# which clients an address serves


@pytest.mark.slow
@requires_ss_kill()
def test_a_listener_that_was_shut_down_listens_again(launch: Launch) -> None:
    """After ``ss --kill`` on a listener, clients are refused for about a second. Then
    the master listens again at the same address and logs it. Other connections and
    workers are not affected.
    """
    unpd = launch("""
        [pools.default]
        workers = 2
        [services.echo]
        listen = ["tcp://127.0.0.1:0"]
        [services.other]
        type = "echo"
        listen = ["tcp://127.0.0.1:0"]
        """)
    unpd.expect_errors("exporter.crashed")
    workers = unpd.workers()
    with clients.connect(unpd.address("other")) as bystander:
        unpd.metric_becomes(1, "unpd_connections_active", service="other")
        for target in ("echo", METRICS):
            ss_kill(unpd.port(target))
            unpd.wait_event("listener.mended", service=target)
        assert echoes(unpd.address("echo"))
        bystander.sendall(b"still here")
        assert clients.read_exactly(bystander, 10) == b"still here"
        unpd.metric_becomes(2, "unpd_connections_accepted_total")
        assert unpd.workers() == workers


def test_a_unix_listener_that_was_shut_down_is_opened_anew(launch: Launch, tmp_path: Path) -> None:
    """A UNIX listener cannot listen again, so a new one takes its place, which the
    workers of the next generation serve. Each worker logs the end of the old one once.
    """
    unpd = launch(f'services.echo.listen = ["tcp://127.0.0.1:0", "unix://{tmp_path}/echo.sock"]')
    with taken_from(unpd.pid, f"{tmp_path}/echo.sock") as listener:
        listener.shutdown(socket.SHUT_RDWR)
    renewed = unpd.wait_event(
        "listener.renewed", service="echo", address=f"unix://{tmp_path}/echo.sock"
    )
    assert renewed.fields["reason"] == "another process shut it down"
    unpd.wait_event("reload.succeeded", generation=2)
    assert len(unpd.log_events("accept.failed", errno="EINVAL")) == 2
    assert echoes(("127.0.0.1", unpd.port("echo")))
    assert echoes(f"{tmp_path}/echo.sock")
    assert not unpd.log_events("worker.died")


@contextlib.contextmanager
def taken_from(pid: int, path: str) -> Iterator[socket.socket]:
    """Take the UNIX listener at ``path`` out of the process ``pid`` (pidfd_getfd(2)),
    as a process that shares it has it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    inode = next(
        line.split()[6]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.endswith(path)
    )
    number = next(fd for fd, what in procs.fds(pid).items() if what == f"socket:[{inode}]")
    pidfd = os.pidfd_open(pid)
    try:
        taken = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
        if taken < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(pidfd)
    with socket.socket(fileno=taken) as sock:
        yield sock


def test_an_ipv6_wildcard_serves_both_families(launch: Launch) -> None:
    """[::] serves IPv6 and IPv4 clients, and the log shows an IPv4 peer as IPv4."""
    unpd = launch('services.echo.listen = ["tcp://[::]:0"]')
    assert echoes(("::1", unpd.port("echo")))
    assert echoes(("127.0.0.1", unpd.port("echo")))
    peers = sorted(
        unpd.wait_event("connection.ended", after=index).fields["peer"].rpartition(":")[0]
        for index in range(2)
    )
    assert peers == ["127.0.0.1", "[::1]"]


@requires_namespaces()
def test_ipv6_only_leaves_the_ipv4_port_free(launch: Launch) -> None:
    """With ipv6_only, [::] does not serve IPv4, and another daemon can listen on the
    same port of 0.0.0.0. A network namespace makes sure that the IPv4 port is free.
    """
    with namespace() as net:
        unpd = launch(
            '[services.echo]\nlisten = ["tcp://[::]:0"]\nipv6_only = true', prefix=net.prefix
        )
        port = unpd.port("echo")
        with net.entered():
            assert echoes(("::1", port))
            assert not echoes(("127.0.0.1", port))
        other = launch(f'services.echo.listen = ["tcp://0.0.0.0:{port}"]', prefix=net.prefix)
        with net.entered():
            assert echoes(("127.0.0.1", port))
            assert echoes(("::1", port))
        other.stop()
        with net.entered():
            assert not echoes(("127.0.0.1", port))
        unpd.stop()


def without_ipv6() -> None:
    """Make socket(2) fail for IPv6 in this process, as in a kernel without IPv6
    (seccomp(2), inherited over fork and exec).
    """
    call = SOCKET_CALL[platform.machine()]
    program = struct.pack(
        "=HBBIHBBIHBBIHBBIHBBIHBBI",
        *(0x20, 0, 0, 0),  # load the number of the system call
        *(0x15, 0, 3, call),  # not socket(2): let it pass
        *(0x20, 0, 0, 16),  # load its first argument
        *(0x15, 0, 1, socket.AF_INET6),  # another family: let it pass
        *(0x06, 0, 0, 0x00050000 | EAFNOSUPPORT),  # fail with this errno
        *(0x06, 0, 0, 0x7FFF0000),  # let it pass
    )
    held = ctypes.create_string_buffer(program)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(
        PR_SET_SECCOMP,
        SECCOMP_MODE_FILTER,
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held)),
    )


needs_filter = pytest.mark.skipif(
    platform.machine() not in SOCKET_CALL,
    reason="knows the number of socket(2) on x86_64 and aarch64 only",
)


@needs_filter
def test_where_the_kernel_has_no_ipv6_the_wildcard_serves_ipv4(launch: Launch) -> None:
    """On a kernel without IPv6, [::] becomes 0.0.0.0, and a warning says so."""
    unpd = launch('services.echo.listen = ["tcp://[::]:0"]', preexec=without_ipv6)
    assert echoes(("127.0.0.1", unpd.port("echo")))
    warning = unpd.log_events("listener.without_ipv6")[0]
    assert warning.level == "warning"
    assert (warning.fields["wanted"], warning.fields["address"]) == (
        "tcp://[::]:0",
        f"tcp://0.0.0.0:{unpd.port('echo')}",
    )


@needs_filter
def test_where_the_kernel_has_no_ipv6_nothing_else_falls_back(launch: Launch) -> None:
    """On a kernel without IPv6, a host's own IPv6 address and an ipv6_only listener are
    refused instead of served over IPv4.
    """
    for services in (
        'services.echo.listen = ["tcp://[::1]:0"]',
        '[services.echo]\nlisten = ["tcp://[::]:0"]\nipv6_only = true',
    ):
        unpd = launch(services, ready=False, preexec=without_ipv6)
        assert "this kernel does not know the address family" in refusal(unpd, ExitCode.ADDRESS)


@requires_namespaces()
def test_where_ipv6_is_switched_off_the_wildcard_serves_ipv4(launch: Launch) -> None:
    """Where a sysctl disables IPv6, [::] serves IPv4, and an IPv6 address is
    missing.
    """
    with namespace() as net:
        net.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
        unpd = launch('services.echo.listen = ["tcp://[::]:0"]', prefix=net.prefix)
        with net.entered():
            assert echoes(("127.0.0.1", unpd.port("echo")))
        unpd.stop()
        refused = launch('services.echo.listen = ["tcp://[::1]:7"]', prefix=net.prefix, ready=False)
        assert (
            "service echo cannot listen on tcp://[::1]:7: this host has no such address"
            in refusal(refused, ExitCode.ADDRESS)
        )


# which starts are refused


def refusal(unpd: Unpd, code: ExitCode) -> str:
    """Assert that the daemon refuses to start with ``code``, without spawning a child.
    Return its one line on standard error.
    """
    unpd.expect_exit(code)
    unpd.expect_errors("master.refused")
    assert unpd.wait_exit() == code, unpd.stderr()
    said = [line for line in unpd.stderr().splitlines() if not line.startswith("{")]
    assert len(said) == 1, said
    assert not unpd.log_events("child.spawned")
    return said[0]


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """Provide a port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_stops_the_start_and_leaves_nothing(launch: Launch, tmp_path: Path) -> None:
    """With one of three addresses in use the daemon exits with 69 and a sentence that
    names service and address. The other two addresses are free again.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as lent,
    ):
        port, free = other.getsockname()[1], lent.getsockname()[1]
        lent.close()
        unpd = launch(
            f"""
            [services.daytime]
            listen = ["tcp://127.0.0.1:{free}", "unix://{tmp_path}/daytime.sock"]

            [services.echo]
            listen = ["tcp://127.0.0.1:{port}"]
            """,
            ready=False,
        )
        assert (
            f"service echo cannot listen on tcp://127.0.0.1:{port}: the address is in use by"
            " another program" in refusal(unpd, ExitCode.ADDRESS)
        )
    assert not (tmp_path / "daytime.sock").exists()
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_the_exporters_port_in_use_is_reported_like_a_services(launch: Launch) -> None:
    """A metrics port in use is refused in the same way."""
    with taken_port() as port:
        unpd = launch(f'[metrics]\nlisten = "tcp://127.0.0.1:{port}"', ready=False)
        assert (
            f"the metrics exporter cannot listen on tcp://127.0.0.1:{port}: the address is in use"
            in refusal(unpd, ExitCode.ADDRESS)
        )


def is_healthy(port: int) -> bool:
    """Whether an exporter on ``port`` says that it lives."""
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.suppress(OSError):
        return b" 200 " in clients.converse(("127.0.0.1", port), request)
    return False


@pytest.mark.slow
def test_an_exporters_port_that_is_not_required_may_be_in_use(launch: Launch) -> None:
    """The daemon starts without the exporter, and a reload leaves it out; the fault is
    logged once and shown, and it ends when the port is free. Where the port is
    required, the reload is refused.
    """
    text = '[metrics]\nrequired = {}\nlisten = "tcp://127.0.0.1:{}"'
    first, second = free_port(), free_port()
    cannot = "the metrics exporter cannot listen on tcp://127.0.0.1:{}: the address is in use"
    with socket.create_server(("127.0.0.1", first)):
        unpd = launch(text.format("false", first))
        unpd.expect_errors("listener.broken")
        unpd.wait_event("listener.broken", service=METRICS)
        assert echoes(unpd.address("echo"))
        assert degraded(unpd)[0].startswith(cannot.format(first))
        assert (status(unpd)["ready"], status(unpd)["metrics"]) == (True, None)
    until(lambda: is_healthy(first), 10.0, "the metrics to be there")
    assert degraded(unpd) == []
    assert len(unpd.log_events("listener.broken")) == 1
    assert unpd.log_events("listener.renewed", service=METRICS)
    with socket.create_server(("127.0.0.1", second)):
        reload(unpd, text.format("false", second))
        assert degraded(unpd)[0].startswith(cannot.format(second))
        until(lambda: unpd.exporter() is None, 10.0, "the exporter of before to end")
        preview = ask(unpd.control, verb="reload", dry_run=True)["preview"]
        assert (preview["listeners_opened"], preview["replaced"]) == ([], [])
        assert cannot.format(second) in refused_reload(unpd, text.format("true", second))
        assert echoes(unpd.address("echo"))
    until(lambda: is_healthy(second), 10.0, "the metrics to be there again")
    assert degraded(unpd) == []


def test_an_address_of_another_host_is_refused(launch: Launch) -> None:
    """An address that the host does not have exits with 69 and a sentence (192.0.2.0/24
    is for documentation).
    """
    unpd = launch('services.echo.listen = ["tcp://192.0.2.1:7007"]', ready=False)
    assert (
        "service echo cannot listen on tcp://192.0.2.1:7007: this host has no such address"
        in refusal(unpd, ExitCode.ADDRESS)
    )


def without_bind_capability() -> None:
    """Take the capability to bind a low port from root."""
    if os.geteuid() == 0:
        prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)


LOW_PORTS_FREE = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024


@pytest.mark.skipif(
    LOW_PORTS_FREE,
    reason=(
        "needs a system where ports below 1024 are privileged (net.ipv4.ip_unprivileged_port_start)"
    ),
)
def test_a_low_port_without_the_privilege_is_refused(launch: Launch) -> None:
    """Without root or CAP_NET_BIND_SERVICE a port below 1024 exits with 77 and a
    sentence that names what is missing.
    """
    unpd = launch(
        'services.echo.listen = ["tcp://127.0.0.1:7"]', ready=False, preexec=without_bind_capability
    )
    said = refusal(unpd, ExitCode.PRIVILEGE)
    assert (
        "service echo cannot listen on tcp://127.0.0.1:7: a port below 1024 needs root or"
        " CAP_NET_BIND_SERVICE" in said
    )


# the files of UNIX sockets


def listening_on(path: Path) -> str:
    """Return a configuration of an echo at ``path``."""
    return f'services.echo.listen = ["unix://{path}"]'


def test_a_stale_socket_is_replaced(launch: Launch, tmp_path: Path) -> None:
    """A socket file without a listener is replaced. The daemon removes its own file
    when it stops.
    """
    path = tmp_path / "echo.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    unpd = launch(listening_on(path))
    assert echoes(str(path))
    unpd.stop()
    assert not path.exists()


def test_a_socket_in_use_is_refused(launch: Launch, tmp_path: Path) -> None:
    """The socket of another instance is refused with 69. That instance goes on serving
    on the same file.
    """
    path = tmp_path / "echo.sock"
    launch(listening_on(path))
    before = path.stat()
    second = launch(listening_on(path), ready=False)
    said = refusal(second, ExitCode.ADDRESS)
    assert (
        f"service echo cannot listen on unix://{path}: the address is in use by another program"
        f" (ss -lxp | grep -F {path} shows it)" in said
    )
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert echoes(str(path))


def make_file(path: Path) -> None:
    """Create a regular file."""
    path.write_text("precious")


def make_directory(path: Path) -> None:
    """Create a directory."""
    path.mkdir()


def make_link_to_file(path: Path) -> None:
    """Create a symbolic link to a regular file."""
    (path.parent / "target").write_text("precious")
    path.symlink_to("target")


def make_link_to_socket(path: Path) -> None:
    """Create a symbolic link to a stale socket."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path.parent / "target"))
    path.symlink_to("target")


def make_dangling_link(path: Path) -> None:
    """Create a symbolic link to nothing."""
    path.symlink_to("nothing")


def contents(place: Path) -> dict[str, tuple[int, int, int]]:
    """Return what would change in the directory if a file were touched: inode, time and
    mode of each entry.
    """
    stats = {entry.name: entry.lstat() for entry in place.iterdir()}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_mode) for name, stat in stats.items()}


@pytest.mark.parametrize(
    "make", [make_file, make_directory, make_link_to_file, make_link_to_socket, make_dangling_link]
)
def test_what_is_no_socket_is_refused_and_stays(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A file, a directory or a link at the path is refused with a sentence and stays
    unchanged.
    """
    path = tmp_path / "echo.sock"
    make(path)
    before = contents(tmp_path)
    wanted = WantedListener(
        "key",
        "echo",
        UnixAddress(str(path)),
        ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666),
    )
    with pytest.raises(
        AddressError,
        match=re.escape(
            f"service echo cannot listen on unix://{path}: something that is not a socket is there"
        ),
    ):
        ListenerSources().open(wanted)
    assert contents(tmp_path) == before


def test_a_file_at_a_sockets_path_stops_the_start(launch: Launch, tmp_path: Path) -> None:
    """The daemon exits with 69, and the file is unchanged."""
    place = tmp_path / "place"
    place.mkdir()
    make_file(place / "echo.sock")
    before = contents(place)
    assert "something that is not a socket is there" in refusal(
        launch(listening_on(place / "echo.sock"), ready=False), ExitCode.ADDRESS
    )
    assert contents(place) == before


def test_a_missing_directory_is_refused(launch: Launch, tmp_path: Path) -> None:
    """A path in a missing directory is refused with 69, and the directory is not
    created.
    """
    path = tmp_path / "missing" / "echo.sock"
    assert f"service echo cannot listen on unix://{path}: the directory does not exist" in refusal(
        launch(listening_on(path), ready=False), ExitCode.ADDRESS
    )
    assert not path.parent.exists()


def test_a_path_that_is_too_long_is_a_fault_of_the_configuration(
    launch: Launch, tmp_path: Path
) -> None:
    """A path of more than 107 bytes (unix(7)) is refused with 78, and the sentence
    names the key.
    """
    path = tmp_path / ("x" * 100)
    said = refusal(launch(listening_on(path), ready=False), ExitCode.CONFIGURATION)
    assert re.search(r"services\.echo\.listen.*107", said), said


def test_a_socket_has_the_mode_of_the_configuration(launch: Launch, tmp_path: Path) -> None:
    """The socket's mode is socket_mode, whatever the umask."""
    modes = ("0600", "0660", "0666")
    services = [
        f'[services.mode-{mode}]\ntype = "echo"\nlisten = ["unix://{tmp_path}/{mode}"]\nsocket_mode'
        f' = "{mode}"'
        for mode in modes
    ]
    launch("\n".join(services), preexec=lambda: os.umask(0o077))
    assert tuple(f"{(tmp_path / mode).stat().st_mode & 0o7777:04o}" for mode in modes) == modes
    assert all(echoes(str(tmp_path / mode)) for mode in modes)


def test_a_socket_that_was_replaced_is_not_removed_at_the_end(
    launch: Launch, tmp_path: Path
) -> None:
    """The daemon does not remove a file that another program put at the path
    meanwhile.
    """
    path = tmp_path / "echo.sock"
    unpd = launch(listening_on(path))
    path.unlink()
    path.write_text("somebody else's")
    unpd.expect_leftover(path)
    unpd.stop()
    assert path.read_text() == "somebody else's"
