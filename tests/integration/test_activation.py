"""Socket activation: the service manager passes listeners by name. Each mismatch is
refused with one sentence.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import degraded, refused_reload, reload
from tests.support.waiting import holds

CONFIG = """
[metrics]
listen = "systemd:metrics"

[services.echo]
listen = ["systemd:echo"]

[services.daytime]
listen = ["systemd:daytime"]
"""
ECHO = """
[services.echo]
listen = ["systemd:echo"]
"""


def listener() -> socket.socket:
    """Create what a socket unit creates for ListenStream=127.0.0.1:0."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def refused(unpd: Unpd, code: int) -> str:
    """Assert that the start is refused with ``code``. Return standard error."""
    unpd.expect_exit(code)
    assert unpd.wait_exit() == code
    return unpd.stderr()


def test_every_listener_is_passed_by_name(launch: Launch, systemd: FakeSystemd) -> None:
    """Echo, daytime and metrics are served on the passed sockets. The log, the status
    and the metrics show the real addresses.
    """
    where = {name: systemd.listen(name, listener()) for name in ("daytime", "metrics", "echo")}
    unpd = systemd.start(launch, CONFIG)
    assert {name: unpd.address(name) for name in where} == where
    assert clients.converse(where["echo"], b"passed") == b"passed"
    assert clients.ask(where["daytime"]).endswith(b"\r\n")
    host, port = where["echo"]
    unpd.metric_becomes(
        4096, "unpd_listen_queue_limit", service="echo", listener=f"tcp://{host}:{port}"
    )
    assert (
        f"tcp://{host}:{port}"
        in unpd.run("status", "--json", "--config", str(unpd.config_path)).stdout.decode()
    )
    assert reload(unpd, every_pool=True) == 2
    assert clients.converse(where["echo"], b"still") == b"still"
    assert unpd.stop() == 0


def test_clients_wait_while_no_daemon_runs(launch: Launch, systemd: FakeSystemd) -> None:
    """The passed socket belongs to the service manager. After a stop its clients queue,
    and the next daemon serves them.
    """
    where = systemd.listen("echo", listener())
    unpd = systemd.start(launch, ECHO)
    assert clients.converse(where, b"first") == b"first"
    assert unpd.stop() == 0
    with clients.connect(where) as waiting:
        waiting.sendall(b"patience")
        waiting.shutdown(socket.SHUT_WR)
        systemd.start(launch, ECHO)
        assert clients.read_all(waiting) == b"patience"


def test_one_name_may_stand_for_several(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """A unit may have several ListenStream= lines, UNIX sockets among them. The daemon
    does not remove the file of a passed UNIX socket.
    """
    first, second = systemd.listen("echo", listener()), systemd.listen("echo", listener())
    path = tmp_path / "echo.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    systemd.listen("echo", unix)
    unpd = systemd.start(launch, ECHO)
    unpd.expect_leftover(path)
    for where in (first, second, str(path)):
        assert clients.converse(where, b"one of three") == b"one of three"
    assert unpd.stop() == 0
    assert path.is_socket()


@pytest.mark.slow
def test_a_passed_socket_whose_file_is_out_of_sight(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """The daemon cannot see the file of a passed UNIX socket, as with PrivateTmp= or
    ProtectHome=. Its clients are served, so the daemon does not call it broken; nor
    does a name that is not UTF-8 harm it.
    """
    path = os.fsencode(tmp_path) + b"/\xffecho.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen()
    systemd.listen("echo", unix)
    os.rename(path, path + b".seen")
    unpd = systemd.start(launch, ECHO)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path + b".seen")
        client.sendall(b"served")
        assert clients.read_exactly(client, 6) == b"served"
    assert unpd.get("/metrics").status == 200
    holds(lambda: degraded(unpd) == [], 1.5, "the listener to be whole")
    assert unpd.stop() == 0


def test_a_name_without_a_listener(launch: Launch, systemd: FakeSystemd) -> None:
    """A name for which nothing is passed is refused, and the sentence lists the passed
    names.
    """
    systemd.listen("ehco", listener())
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "service echo cannot listen on systemd:echo: systemd passes no listener of that name, it"
        " passes ehco" in said
    )


def test_nothing_is_passed(launch: Launch, systemd: FakeSystemd) -> None:
    """Without any passed listener the start is refused. This happens by hand, or when
    the socket unit is disabled.
    """
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "service echo cannot listen on systemd:echo: systemd passes no listener of that name, it"
        " passes none at all" in said
    )


def test_a_passed_listener_that_the_configuration_does_not_name(
    launch: Launch, systemd: FakeSystemd
) -> None:
    """A passed listener that no service names is refused, at the start and at a reload,
    because its clients would wait for ever.
    """
    host, port = systemd.listen("stray", listener())
    wanted = (
        f"systemd passes tcp://{host}:{port} as stray, and nothing listens on it: write"
        ' "systemd:stray" into a listen, or disable its socket unit'
    )
    assert wanted in refused(
        systemd.start(launch, ECHO.replace("systemd:echo", "tcp://127.0.0.1:0"), ready=False), 69
    )
    where = systemd.listen("echo", listener())
    unpd = systemd.start(launch, ECHO.replace('"systemd:echo"', '"systemd:echo", "systemd:stray"'))
    unpd.expect_errors("reload.refused")
    assert wanted in refused_reload(
        unpd, unpd.config_path.read_text().replace(', "systemd:stray"', "")
    )
    assert clients.converse(where, b"as before") == b"as before"


def test_an_address_that_a_passed_listener_has(launch: Launch, systemd: FakeSystemd) -> None:
    """An address of the configuration that a passed listener has already is refused
    with the name of that listener's service.
    """
    port = systemd.listen("echo", listener())[1]
    unpd = systemd.start(
        launch,
        f"""
        [services.daytime]
        listen = ["tcp://0.0.0.0:{port}"]
        [services.echo]
        listen = ["systemd:echo"]
        """,
        ready=False,
    )
    assert (
        f"service daytime cannot listen on tcp://0.0.0.0:{port}: unpd itself listens on"
        f" tcp://127.0.0.1:{port} for service echo; use another port" in refused(unpd, 69)
    )


def datagram() -> socket.socket:
    """Create a datagram socket without an address."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def connected() -> socket.socket:
    """Create what Accept=yes passes."""
    with listener() as listening:
        sock = socket.create_connection(listening.getsockname())
        listening.accept()[0].close()
    return sock


@pytest.mark.parametrize("make", [datagram, connected])
def test_a_passed_socket_that_does_not_listen(
    launch: Launch, systemd: FakeSystemd, make: Callable[[], socket.socket]
) -> None:
    """A passed connection, or a datagram socket without an address, is refused."""
    systemd.sockets.append(("echo", os.dup((sock := make()).fileno())))
    sock.close()
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "systemd passes echo, which is no listening stream socket and no datagram socket: its"
        " socket unit needs ListenStream= and Accept=no, or ListenDatagram=" in said
    )


def test_metrics_take_one_listener(launch: Launch, systemd: FakeSystemd) -> None:
    """Two listeners under the exporter's name are refused."""
    systemd.listen("metrics", listener())
    systemd.listen("metrics", listener())
    said = refused(
        systemd.start(
            launch,
            '[metrics]\nlisten = "systemd:metrics"\n'
            + ECHO.replace("systemd:echo", "tcp://127.0.0.1:0"),
            ready=False,
        ),
        69,
    )
    assert (
        "the metrics exporter cannot listen on systemd:metrics: systemd passes 2 listeners of that"
        " name, and it takes one" in said
    )


def test_two_listeners_with_one_address(launch: Launch, systemd: FakeSystemd) -> None:
    """Two passed listeners with one address (ReusePort=yes) are refused, because the
    master could not see whether the clients of each are served.
    """
    first = socket.socket()
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    second = socket.socket()
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second.bind(first.getsockname())
    first.listen()
    second.listen()
    systemd.listen("echo", first)
    host, port = systemd.listen("echo", second)
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        f"systemd passes tcp://{host}:{port} more than once: let one socket unit have it, without"
        " ReusePort=" in said
    )


def test_descriptors_for_another_process_are_not_taken(launch: Launch) -> None:
    """Descriptors are not taken when LISTEN_PID names another process, such as a shell
    between systemd and unpd.
    """
    unpd = launch(
        ECHO, ready=False, env={"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "echo"}
    )
    assert "it passes none at all" in refused(unpd, 69)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"LISTEN_FDS": "many"}, "LISTEN_FDS is not a number of descriptors: 'many'"),
        (
            {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "echo"},
            "LISTEN_FDS announces 2 descriptors, but LISTEN_FDNAMES has 1",
        ),
        ({"LISTEN_FDS": "300"}, "Bad file descriptor"),
    ],
)
def test_variables_that_contradict_themselves(
    launch: Launch, env: dict[str, str], reason: str
) -> None:
    """Variables that contradict each other are refused. The daemon guesses nothing."""
    own_pid = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")
    unpd = launch(ECHO, ready=False, prefix=own_pid, env=dict(env))
    said = refused(unpd, 1)
    assert "the service manager's variables for passed descriptors are wrong: " in said
    assert reason in said


def test_children_do_not_inherit_the_variables(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """The environment holds no variable of activation, notification or watchdog when
    children are forked.
    """
    systemd.listen("echo", listener())
    report = tmp_path / "environment"
    start = (
        "import os, sys\n"
        "from unpd.master.children import fork\n"
        "live = fork._live\n"
        "def spy(*a):\n"
        f"    open({str(report)!r}, 'a').write(' '.join(os.environ) + '\\n')\n"
        "    return live(*a)\n"
        "fork._live = spy\n"
        "from unpd.cli.main import main\n"
        "sys.exit(main())\n"
    )
    unpd = systemd.start(launch, ECHO, watchdog_s=5.0, command=(sys.executable, "-c", start))
    assert unpd.stop() == 0
    lines = report.read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "PATH" in line.split()
        assert not {
            "NOTIFY_SOCKET",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            "WATCHDOG_USEC",
            "FDSTORE",
        } & set(line.split())


MPTCP = 262
"""IPPROTO_MPTCP (linux/in.h). The module socket has a name for it on some systems."""


@pytest.mark.parametrize(
    ("kind", "protocol", "name"),
    [
        (
            socket.SOCK_STREAM,
            MPTCP,
            "MPTCP",
        ),
        (
            socket.SOCK_DGRAM,
            socket.IPPROTO_UDPLITE,
            "UDP-Lite",
        ),
    ],
    ids=["mptcp", "udplite"],
)
def test_a_socket_of_another_protocol_is_refused(
    launch: Launch, systemd: FakeSystemd, kind: int, protocol: int, name: str
) -> None:
    """With what its socket unit needs: it takes not all options, or only looks like one
    of TCP or UDP.
    """
    try:
        sock = socket.socket(socket.AF_INET, kind, protocol)
    except OSError as error:
        pytest.skip(f"this kernel has no {name}: {error}")
    sock.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    systemd.listen("echo", sock)
    assert refused(systemd.start(launch, ECHO, ready=False), 69).endswith(
        f"service echo cannot listen on systemd:echo: systemd passes a socket of {name}: remove"
        " SocketProtocol= from its socket unit\n"
    )
