"""A kill of the main process, and a restart of the unit, under 800 short sessions a
second: only sessions that the killed processes served may notice.
"""

import re
import socket

import pytest

from tests.packaging.installed import (
    CONF_D,
    ECHO,
    SERVICE,
    Installed,
    open_now,
    summary,
    under_load,
)
from tests.support import clients, procs
from tests.support.observed import Samples, total
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

COUNTER = re.compile("unpd_.*_total")
KILLS = 3
HELD = 50
"""How many more sessions are open at each kill."""


def accepted(samples: Samples) -> float:
    """How many connections echo has accepted."""
    return total(samples, "unpd_connections_accepted_total", service="echo")


def went_on(before: Samples, after: Samples) -> None:
    """Assert that no counter of the daemon went down. Those of a process
    (process_cpu_seconds_total) may: they begin with the process.
    """
    fallen = {
        name: (value, after.get(name))
        for name, value in before.items()
        if COUNTER.fullmatch(name[0]) and after.get(name, -1.0) < value
    }
    assert not fallen


def test_kill_of_the_main_process(unpd: Installed) -> None:
    """`kill -9` of the main process, three times: no client is refused or left waiting.
    Only sessions that were open at that moment are cut, and the counters go on.
    """
    unpd.start()
    before = unpd.samples()
    cut = 0
    with under_load() as load:
        for number in range(KILLS):
            with clients.idle(ECHO, HELD) as held:
                for sock in held:
                    sock.sendall(b"open")
                    assert clients.read_exactly(sock, 4) == b"open"
                with procs.stopped([load.pid]):
                    cut += open_now(load)
                    unpd.kill_main()
                unpd.wait_restarts(number + 1)
                load.more(500)
                assert [ended(sock) for sock in held] == [True] * HELD
        result = summary(load)
    assert (
        result.outcomes["refused"] == result.outcomes["timeout"] == result.outcomes["wrong"] == 0
    ), result
    assert sum(result.failed().values()) <= cut, (result, cut)
    after = unpd.samples()
    went_on(before, after)
    assert (
        result.attempts - cut
        <= accepted(after) - accepted(before) - KILLS * HELD
        <= result.attempts
    )


def ended(sock: socket.socket) -> bool:
    """Whether the server, or the kernel in its place, has ended the session."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_restart(unpd: Installed) -> None:
    """`systemctl restart`, three times: no client is refused, reset or left waiting,
    and the counters go on.
    """
    unpd.start()
    before = unpd.samples()
    with under_load() as load:
        for _ in range(3):
            unpd.systemctl("restart", "unpd")
            load.more(500)
        result = summary(load)
    result.assert_clean(at_least=1500)
    after = unpd.samples()
    went_on(before, after)
    assert accepted(after) - accepted(before) == result.attempts


def test_a_session_that_ends_within_the_grace(unpd: Installed) -> None:
    """A session that is open at `systemctl restart`, and ends within the grace, gets
    its whole reply.
    """
    unpd.start()
    with clients.connect(ECHO) as sock:
        sock.sendall(b"before ")
        assert clients.read_exactly(sock, 7) == b"before "
        restarting = unpd.machine.start("systemctl", "restart", "unpd")
        for _ in range(20):
            sock.sendall(b"meanwhile ")
            assert clients.read_exactly(sock, 10) == b"meanwhile "
        sock.shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b""
        restarting.communicate(timeout=20.0)
    assert clients.converse(ECHO, b"after") == b"after"


UNIX = '[services.local]\ntype = "echo"\nlisten = ["unix:///run/unpd/echo.sock"]\n'
SECOND = '[services.second]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:7007"]\n'


def test_a_unix_listener_outlives_the_main_process(unpd: Installed) -> None:
    """The path of a UNIX listener stays while systemd keeps the listener: clients find
    it there after a kill and after a restart.
    """
    unpd.machine.put(f"{CONF_D}/local.toml", UNIX)
    unpd.start()
    path = unpd.machine.path("/run/unpd/echo.sock")
    inode = path.stat().st_ino
    unpd.kill_main()
    unpd.wait_restarts(1)
    assert clients.converse(str(path), b"hello") == b"hello"
    unpd.systemctl("restart", SERVICE)
    assert clients.converse(str(path), b"hello") == b"hello"
    assert path.stat().st_ino == inode


def test_a_removed_listener_leaves_the_store(unpd: Installed) -> None:
    """If a reload removes a listener, systemd closes it too: no client waits for a
    service that no longer exists.
    """
    unpd.start()
    kept = unpd.show("NFileDescriptorStore")
    unpd.machine.put(f"{CONF_D}/second.toml", SECOND)
    unpd.systemctl("reload", SERVICE)
    assert int(unpd.show("NFileDescriptorStore")) == int(kept) + 1
    unpd.machine.path(f"{CONF_D}/second.toml").unlink()
    unpd.systemctl("reload", SERVICE)
    until(lambda: unpd.show("NFileDescriptorStore") == kept, 5.0, "systemd to close what it kept")
    unpd.kill_main()
    unpd.wait_restarts(1)
    with pytest.raises(ConnectionRefusedError):
        clients.connect(("127.0.0.1", 7007)).close()
