"""The table of listeners inside one process: what opening refuses, and how often a
listener is opened anew.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import faults
from unpd.config.addresses import Address, SystemdAddress, TcpAddress, UnixAddress
from unpd.errors import AddressError
from unpd.kernel.activation import Passed
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.listener import OpenListener, WantedListener
from unpd.master.listening.opening import open_new
from unpd.master.listening.repair import Outcome
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import RENEWAL_PAUSE_S, Listeners

OPTIONS = ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666)
NOW = 1000.0


def wanted(address: Address, options: ListenOptions = OPTIONS) -> WantedListener:
    """A wanted listener of the service echo."""
    return WantedListener(address.text, "echo", address, options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a UNIX listener."""
    return tmp_path / "echo.sock"


@pytest.fixture
def listeners(path: Path) -> Iterator[Listeners]:
    """A table with a UNIX listener."""
    table = Listeners(ListenerSources())
    table.adopt(table.prepare([wanted(UnixAddress(str(path)))]))
    yield table
    table.close()


def repairs(table: Listeners, at: float, *, may_renew: bool = True) -> list[Outcome]:
    """The outcomes of the repairs at that time."""
    return [repair.outcome for repair in table.mend(at, may_renew=may_renew)]


def test_a_stored_listener_that_refuses_its_options_is_dropped(path: Path) -> None:
    """A stored listener that cannot be used is closed and noted, and then opening a new
    one decides whether the address is refused.
    """
    impossible = wanted(
        UnixAddress(str(path)),
        ListenOptions(
            backlog=2**40, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666
        ),
    )
    old = open_new(wanted(UnixAddress(str(path))))
    sources = ListenerSources([Passed(old.stored_as, old.sock.detach())])
    with pytest.raises(AddressError):
        sources.open(impossible)
    assert [dropped.item for dropped in sources.stored.dropped] == [impossible.address.text]
    assert not path.exists()


@pytest.mark.parametrize(
    "address",
    [
        TcpAddress("fe80::1%eth0..1", 7),
        TcpAddress("fe80::1%" + 15 * "é", 7),
        TcpAddress("fe80::1%nowhere", 7),
        TcpAddress("fe80::1%" + 200 * "x", 7),
        UnixAddress("/" + 200 * "x"),
        UnixAddress("/\0"),
    ],
    ids=lambda address: ascii(address.text)[:40],
)
def test_whatever_opening_raises_is_a_refusal(address: Address) -> None:
    """An address that no system call takes is refused in one sentence that names it.
    What was opened before it is closed again.
    """
    table = Listeners(ListenerSources())
    with pytest.raises(AddressError) as refused:
        table.prepare([wanted(TcpAddress("127.0.0.1", 0)), wanted(address)])
    assert str(refused.value).startswith(f"service echo cannot listen on {address.text}: ")


class Unlucky(ListenerSources):
    """Sources in which the second listener meets ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.opened: list[OpenListener] = []

    def open(self, wanted: WantedListener) -> OpenListener:
        """Open the first one."""
        if self.opened:
            raise self.error
        self.opened.append(super().open(wanted))
        return self.opened[0]


@pytest.mark.parametrize(
    "error", [OSError(5, "broken"), UnicodeError("broken"), OverflowError("broken")]
)
def test_whatever_a_reload_meets_is_a_refusal(path: Path, error: Exception) -> None:
    """Also an error that no system call for the address itself made refuses the
    configuration, and the added listeners are closed.
    """
    sources = Unlucky(error)
    with pytest.raises(AddressError, match="service echo cannot listen on"):
        Listeners(sources).prepare(
            [wanted(UnixAddress(str(path))), wanted(TcpAddress("127.0.0.1", 0))]
        )
    assert sources.opened[0].sock.fileno() == -1
    assert not path.exists()


def test_a_listener_that_refuses_its_options_stands_as_a_fault(
    listeners: Listeners, path: Path
) -> None:
    """A reload goes through although listen(2) refuses the new backlog; the fault is
    reported until the options are taken.
    """
    impossible = wanted(
        UnixAddress(str(path)),
        ListenOptions(
            backlog=2**40, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666
        ),
    )
    listeners.adopt(listeners.prepare([impossible]))
    assert repairs(listeners, NOW) == [Outcome.BROKEN]
    assert repairs(listeners, NOW + 1) == []
    assert list(listeners.faults()) == [impossible.key]
    listeners.adopt(listeners.prepare([wanted(UnixAddress(str(path)))]))
    assert repairs(listeners, NOW + 2) == [Outcome.MENDED]
    assert listeners.faults() == {}


def passed_at(path: Path) -> Listeners:
    """A table with the listener that a socket unit has at ``path``."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        sources = ListenerSources([Passed("echo", os.dup(made.fileno()))])
    table = Listeners(sources)
    address = SystemdAddress("echo")
    table.adopt(table.prepare([WantedListener("systemd:echo#0", "echo", address, OPTIONS)]))
    return table


def test_a_passed_listener_whose_file_goes_is_broken(path: Path) -> None:
    """The daemon sees that the file of a passed listener is gone, and is back."""
    table = passed_at(path)
    assert repairs(table, NOW) == []
    path.rename(path.with_suffix(".aside"))
    assert repairs(table, NOW) == [Outcome.BROKEN]
    path.write_text("precious")
    assert repairs(table, NOW) == [Outcome.BROKEN]
    path.with_suffix(".aside").replace(path)
    assert repairs(table, NOW) == [Outcome.MENDED]
    table.close()


@faults.requires_root
def test_a_passed_listener_whose_directory_is_closed_is_not_broken(path: Path) -> None:
    """A directory that this daemon may not search tells nothing about the clients, who
    may be able to.
    """
    path.parent.chmod(0o700)
    table = passed_at(path)
    os.seteuid(65534)
    try:
        assert repairs(table, NOW) == []
        hidden = Listeners(table.sources)
        hidden.adopt(hidden.prepare([listener.wanted for listener in table.opened.values()]))
    finally:
        os.seteuid(0)
    assert repairs(hidden, NOW) == []
    table.close()


def test_a_listener_is_not_opened_anew_every_second(listeners: Listeners, path: Path) -> None:
    """A user who removes the file again and again gets one new listener in
    RENEWAL_PAUSE_S, because each one replaces children.
    """
    path.unlink()
    assert repairs(listeners, NOW) == [Outcome.RENEWED]
    path.unlink()
    assert repairs(listeners, NOW + 1) == [Outcome.BROKEN]
    (text,) = listeners.faults().values()
    assert text.endswith(": its file was removed; it is opened anew 30 s after the last time")
    assert repairs(listeners, NOW + RENEWAL_PAUSE_S - 1) == []
    assert repairs(listeners, NOW + RENEWAL_PAUSE_S) == [Outcome.RENEWED]


def test_a_reload_is_asked_for_until_the_children_have_the_new_listener(
    listeners: Listeners, path: Path
) -> None:
    """After a renewal the fault stands, and a reload is asked for at once, then once in
    RENEWAL_PAUSE_S, until a reload has adopted the listener. The fault says which of
    the two it waits for.
    """
    assert not listeners.needs_reload(NOW)
    path.unlink()
    repairs(listeners, NOW)
    assert listeners.needs_reload(NOW)
    (text,) = listeners.faults().values()
    assert text.endswith(": it is a new socket, which the children lack yet")
    assert not listeners.waiting
    assert not listeners.needs_reload(NOW + 1)
    (text,) = listeners.faults().values()
    assert text.endswith("lack yet; the reload for it was refused, the next one is 30 s later")
    assert [listener.text for listener in listeners.waiting] == [f"unix://{path}"]
    assert listeners.needs_reload(NOW + RENEWAL_PAUSE_S)
    assert not listeners.waiting
    assert len(listeners.faults()) == 1
    listeners.adopt(listeners.prepare([wanted(UnixAddress(str(path)))]))
    assert not listeners.needs_reload(NOW + 2 * RENEWAL_PAUSE_S)
    assert listeners.faults() == {}


def test_nothing_is_opened_anew_while_a_candidate_shares_it(
    listeners: Listeners, path: Path
) -> None:
    """During a reload the listeners stay the same sockets."""
    path.unlink()
    assert repairs(listeners, NOW, may_renew=False) == []
    assert repairs(listeners, NOW) == [Outcome.RENEWED]


def test_a_file_that_is_moved_back_is_found(listeners: Listeners, path: Path) -> None:
    """A listener whose own file comes back is whole again."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.write_text("precious")
    assert repairs(listeners, NOW) == [Outcome.BROKEN]
    assert path.read_text() == "precious"
    os.replace(aside, path)
    assert repairs(listeners, NOW + 1) == [Outcome.MENDED]
    assert listeners.faults() == {}


def test_a_listener_that_is_closed_has_no_fault(listeners: Listeners, path: Path) -> None:
    """At the stop the faults end with the listeners."""
    path.rename(path.with_suffix(".aside"))
    repairs(listeners, NOW)
    listeners.close()
    assert listeners.faults() == {}
    assert not listeners.needs_reload(NOW)


@pytest.mark.parametrize("is_lent", [False, True])
def test_a_program_may_change_the_socket_that_it_got(*, is_lent: bool) -> None:
    """Options that another process changed are set again, but not those of a socket
    that programs get: in.tftpd wants other datagrams, others want to wait in accept(2).
    """
    table = Listeners(ListenerSources())
    lent = replace(wanted(TcpAddress("127.0.0.1", 0)), is_lent=is_lent)
    with contextlib.closing(table):
        table.adopt(table.prepare([lent]))
        sock = table.opened[lent.key].sock
        os.set_blocking(sock.fileno(), True)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
        assert repairs(table, NOW) == ([] if is_lent else [Outcome.MENDED])
        assert os.get_blocking(sock.fileno()) is is_lent
        assert (sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 7) is is_lent


def test_a_socket_that_programs_get_no_more_is_as_it_was() -> None:
    """After a reload, the service of a listener is no program any more. The options
    that a program has left are undone at once, which is no fault.
    """
    table = Listeners(ListenerSources())
    plain = wanted(TcpAddress("127.0.0.1", 0))
    with contextlib.closing(table):
        table.adopt(table.prepare([replace(plain, is_lent=True)]))
        fd = table.opened[plain.key].sock.fileno()
        os.set_blocking(fd, True)
        table.adopt(table.prepare([plain]))
        assert not os.get_blocking(fd)
        assert repairs(table, NOW) == []


def test_a_changed_mode_reaches_no_other_file(listeners: Listeners, path: Path) -> None:
    """A new socket_mode changes the file of the listener alone, and not another socket
    that took its place.
    """
    changed = wanted(
        UnixAddress(str(path)),
        ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o600),
    )
    path.rename(path.with_suffix(".aside"))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        path.chmod(0o666)
        listeners.adopt(listeners.prepare([changed]))
        assert path.stat().st_mode & 0o7777 == 0o666
    os.replace(path.with_suffix(".aside"), path)
    listeners.adopt(listeners.prepare([wanted(UnixAddress(str(path)))]))
    listeners.adopt(listeners.prepare([changed]))
    assert path.stat().st_mode & 0o7777 == 0o600


@faults.requires_root
def test_a_changed_mode_reaches_no_file_of_another_user(listeners: Listeners, path: Path) -> None:
    """The number of an inode can be used again: a file of another user keeps its mode,
    although the number is that of the listener's own file.
    """
    path.chmod(0o644)
    os.chown(path, 65534, -1)
    changed = wanted(
        UnixAddress(str(path)),
        ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o600),
    )
    listeners.adopt(listeners.prepare([changed]))
    assert path.stat().st_mode & 0o7777 == 0o644
