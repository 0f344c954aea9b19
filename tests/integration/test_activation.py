"""Socket activation: listeners that the service manager passes by name, and the
mismatches, each in a sentence.
"""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.manager import Manager
from tests.support.operating import refused_reload, reload

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
    """What a socket unit makes of ListenStream=127.0.0.1:0."""
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def refused(unpd: Unpd, code: int) -> str:
    """The sentence with which the start is refused."""
    unpd.expect_exit(code)
    assert unpd.wait_exit() == code
    return unpd.stderr()


def test_every_listener_comes_by_name(launch: Launch, systemd: Manager) -> None:
    """Echo, daytime and metrics are served on the sockets that were passed, which the
    log, the status and the metrics name by their real addresses.
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
    assert reload(unpd) == 2
    assert clients.converse(where["echo"], b"still") == b"still"
    assert unpd.stop() == 0


def test_clients_wait_while_nobody_serves(launch: Launch, systemd: Manager) -> None:
    """The socket is the service manager's: after a stop its clients queue, and the next
    daemon serves them.
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


def test_one_name_may_stand_for_several(launch: Launch, systemd: Manager, tmp_path: Path) -> None:
    """ListenStream= can stand more than once in a unit; a UNIX socket is as good, and
    its file is not ours to remove.
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


def test_a_name_under_which_nothing_comes(launch: Launch, systemd: Manager) -> None:
    """Refused, with the names that are there."""
    systemd.listen("ehco", listener())
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "service echo cannot listen on systemd:echo: systemd passes no listener of that name, it"
        " passes ehco" in said
    )


def test_nothing_comes_at_all(launch: Launch, systemd: Manager) -> None:
    """Started by hand, or the socket unit is not enabled."""
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "service echo cannot listen on systemd:echo: systemd passes no listener of that name, it"
        " passes none at all" in said
    )


def test_a_listener_that_nobody_names(launch: Launch, systemd: Manager) -> None:
    """Its clients would wait for ever: refused, at the start and at a reload."""
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


def datagram() -> socket.socket:
    """ListenDatagram= makes this."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def connected() -> socket.socket:
    """Accept=yes passes this."""
    with listener() as listening:
        sock = socket.create_connection(listening.getsockname())
        listening.accept()[0].close()
    return sock


@pytest.mark.parametrize("make", [datagram, connected])
def test_what_is_no_listener(
    launch: Launch, systemd: Manager, make: Callable[[], socket.socket]
) -> None:
    """A datagram socket, or a connection."""
    systemd.sockets.append(("echo", os.dup((sock := make()).fileno())))
    sock.close()
    said = refused(systemd.start(launch, ECHO, ready=False), 69)
    assert (
        "systemd passes echo, which is no listening stream socket: its socket unit needs"
        " ListenStream= and Accept=no" in said
    )


def test_metrics_take_one(launch: Launch, systemd: Manager) -> None:
    """Two listeners under the exporter's name: refused."""
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


def test_two_listeners_of_one_address(launch: Launch, systemd: Manager) -> None:
    """ReusePort=yes: half of the clients would go where nobody could tell whether they
    are served.
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
    """LISTEN_PID is not ours: a shell between systemd and us has the descriptors, or
    forgot them.
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
    """Nothing is guessed."""
    own_pid = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")
    unpd = launch(ECHO, ready=False, prefix=own_pid, env=dict(env))
    said = refused(unpd, 1)
    assert "the service manager's variables for passed descriptors are wrong: " in said
    assert reason in said


def test_children_do_not_inherit_the_variables(
    launch: Launch, systemd: Manager, tmp_path: Path
) -> None:
    """Neither what is passed nor whom to tell is for a worker: not a variable of these
    is left in the environment when children are forked.
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
