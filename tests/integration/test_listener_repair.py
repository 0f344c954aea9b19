"""Listeners that no client reaches any more: the master notices, repairs what it can,
says so, and a reload never fails for one.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients, faults
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.faults import Namespace, namespace, requires_namespaces, ss_kill
from tests.support.launch import Launch
from tests.support.operating import (
    another_listens_at,
    degraded,
    refused_reload,
    reload,
    says_once_and_leaves_alone,
    status,
)
from tests.support.ports import free_port
from tests.support.scale import first
from tests.support.waiting import until

LINK_LOCAL = "fe80::1"
PORT = 7007


def echoes(address: clients.Address) -> bool:
    """Whether an echo answers at ``address``."""
    try:
        return clients.converse(address, b"anybody?") == b"anybody?"
    except OSError:
        return False


def shown_broken(unpd: Unpd, value: int) -> None:
    """Wait until the metrics show a broken listener (1), or none (0)."""
    unpd.metric_becomes(value, "unpd_degraded", reason="listener_broken")


def scoped_echo() -> bool:
    """Whether an echo answers at the link-local address, in this network namespace."""
    try:
        with socket.create_connection((f"{LINK_LOCAL}%wire0", PORT), timeout=5.0) as sock:
            sock.sendall(b"anybody?")
            return clients.read_exactly(sock, 8) == b"anybody?"
    except OSError:
        return False


def listening_on(path: Path, more: str = "") -> str:
    """An echo at ``path``."""
    return f'[services.echo]\nlisten = ["unix://{path}"]\n{more}'


# a port that another program has taken


@contextlib.contextmanager
def stolen(port: int) -> Iterator[None]:
    """Shut the TCP listeners on ``port`` down, and listen there as another program."""

    def steal() -> list[socket.socket]:
        ss_kill(port)
        try:
            return [socket.create_server(("127.0.0.1", port))]
        except OSError:
            return []  # the daemon was faster

    with until(steal, 10.0, f"port {port} to be taken")[0]:
        yield


@pytest.mark.slow
@faults.requires_ss_kill()
def test_a_reload_survives_a_listener_whose_port_was_taken(launch: Launch) -> None:
    """A listener was shut down and another program took its port. A reload with another
    backlog goes through; the fault is logged and shown, and it ends when the port is
    free again.
    """
    port = free_port()
    text = f'[services.echo]\nlisten = ["tcp://127.0.0.1:{port}"]\nbacklog = '
    unpd = launch(text + "64")
    unpd.expect_errors("listener.broken")
    with stolen(port):
        assert reload(unpd, text + "32") == 2
        broken = unpd.wait_event("listener.broken", service="echo")
        assert "the address is in use by another program" in broken.fields["reason"]
        shown_broken(unpd, 1)
        assert f"service echo does not serve tcp://127.0.0.1:{port}" in degraded(unpd)[0]
    unpd.wait_event("listener.mended", service="echo")
    assert echoes(("127.0.0.1", port))
    assert status(unpd)["services"][0]["listeners"][0]["queue"]["limit"] == 32
    shown_broken(unpd, 0)


@faults.requires_ss_kill()
@faults.requires_strace()
def test_a_listener_whose_port_was_taken_can_be_removed(launch: Launch, tmp_path: Path) -> None:
    """A reload that removes such a listener goes through, also where the kernel refuses
    the filter for its last moment; and the fault is forgotten.
    """
    port = free_port()
    kept = f"tcp://127.0.0.1:{free_port()}"
    unpd = launch(f'services.echo.listen = ["{kept}", "tcp://127.0.0.1:{port}"]')
    unpd.expect_errors("listener.broken")
    with stolen(port):
        unpd.wait_event("listener.broken", service="echo")
        with faults.straced(
            unpd.pid, tmp_path / "trace", "setsockopt", "setsockopt:error=EPERM", follow=False
        ):
            assert reload(unpd, f'services.echo.listen = ["{kept}"]') == 2
        assert degraded(unpd) == []


# an interface that was made again


@contextlib.contextmanager
def interface(net: Namespace) -> Iterator[None]:
    """An interface with a link-local address: one end of a wire."""
    net.ip("link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    net.ip("address", "add", f"{LINK_LOCAL}/64", "dev", "wire0", "nodad")
    net.ip("link", "set", "wire0", "up")
    net.ip("link", "set", "wire1", "up")
    yield
    net.ip("link", "delete", "wire0")


SCOPED = f'services.echo.listen = ["tcp://[{LINK_LOCAL}%wire0]:{PORT}"]'


@pytest.mark.slow
@requires_namespaces()
def test_a_listener_follows_its_interface(launch: Launch) -> None:
    """When the interface of a link-local listener is deleted, the fault is logged and
    shown. When the interface is made again, so is the listener, and clients are served.
    """
    with namespace() as net:
        with interface(net):
            unpd = launch(SCOPED, prefix=net.prefix)
            unpd.expect_errors("listener.broken")
            with net.entered():
                assert scoped_echo()
        broken = unpd.wait_event("listener.broken", service="echo")
        assert broken.fields["reason"] == "this host has no such interface"
        sentence = (
            f"service echo does not serve tcp://[{LINK_LOCAL}%wire0]:{PORT}: this host has no"
        )
        assert degraded(unpd) == [f"{sentence} such interface"]
        with interface(net):
            renewed = unpd.wait_event("listener.renewed", service="echo")
            assert renewed.fields["reason"] == "interface wire0 was made again"
            unpd.wait_event("reload.succeeded", generation=2)
            with net.entered():
                assert scoped_echo()
            until(lambda: degraded(unpd) == [], 5.0, "the fault to end")
            assert unpd.stop() == 0


@requires_namespaces()
@pytest.mark.parametrize(
    "wanted", first(1, [True, False]), ids=["still wanted", "no longer wanted"]
)
def test_a_stored_listener_of_a_vanished_interface_is_no_obstacle(
    launch: Launch, systemd: FakeSystemd, *, wanted: bool
) -> None:
    """A stored listener whose interface was made again is removed from the store, and
    opened anew if it is still wanted.
    """
    with namespace() as net, net.entered():
        with interface(net):
            first = systemd.start(launch, SCOPED)
            systemd.kill(first)
        with interface(net):
            text = SCOPED if wanted else 'services.echo.listen = ["tcp://[::1]:0"]'
            second = systemd.start(launch, text)
            if wanted:
                (dropped,) = second.log_events("listener.dropped")
                assert dropped.fields["reason"].startswith(f"it listens on tcp://[{LINK_LOCAL}%")
            else:
                assert second.log_events("listener.closed")
            assert scoped_echo() is wanted
            assert second.stop() == 0


@requires_namespaces()
@pytest.mark.parametrize("named", first(1, ["by name", "by number"]))
def test_a_stored_listener_of_an_interface_serves_on(
    launch: Launch, systemd: FakeSystemd, named: str
) -> None:
    """A client that connects between a crash and the next start is served, whether the
    configuration has the name or the number of the interface.
    """
    with namespace() as net, interface(net), net.entered():
        number = str(socket.if_nametoindex("wire0"))
        text = SCOPED if named == "by name" else SCOPED.replace("wire0", number)
        systemd.kill(systemd.start(launch, text))
        with socket.create_connection((f"{LINK_LOCAL}%wire0", PORT), timeout=5.0) as sock:
            sock.sendall(b"patience")
            second = systemd.start(launch, text)
            assert clients.read_exactly(sock, 8) == b"patience"
        assert second.log_events("listener.dropped") == []
        assert second.stop() == 0


WITHOUT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
@requires_namespaces()
def test_the_name_of_an_interface_needs_no_locale(launch: Launch) -> None:
    """In a locale without UTF-8, a reload adds a listener on an interface whose name is
    not ASCII. It is served, nothing is broken, and every page shows its name.
    """
    name = "é0"
    with namespace() as net, net.entered():
        net.ip("link", "add", name, "type", "veth", "peer", "name", "wire1")
        net.ip("address", "add", f"{LINK_LOCAL}/64", "dev", name, "nodad")
        net.ip("link", "set", name, "up")
        net.ip("link", "set", "wire1", "up")
        text = 'services.echo.listen = ["tcp://127.0.0.1:0"]\n'
        address = f"tcp://[{LINK_LOCAL}%{name}]:{PORT}"
        unpd = launch(text, env=WITHOUT_UTF8)
        assert reload(unpd, f'{text}services.daytime.listen = ["{address}"]') == 2
        unpd.metric_becomes(4096, "unpd_listen_queue_limit", service="daytime", listener=address)
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(5.0)
            sock.connect((LINK_LOCAL, PORT, 0, socket.if_nametoindex(name)))
            assert clients.read_all(sock).endswith(b"\r\n")
        assert status(unpd)["services"][1]["listeners"][0]["address"] == address
        assert degraded(unpd) == []
        reason = refused_reload(
            unpd, f'{text}services.daytime.listen = ["tcp://[{LINK_LOCAL}%é1]:{PORT}"]'
        )
        assert "this host has no such interface" in reason
        assert unpd.stop() == 0


# an address that unpd itself holds


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tcp://0.0.0.0:{port}", "tcp://127.0.0.1:{port}"),
        ("tcp://127.0.0.1:{port}", "tcp://0.0.0.0:{port}"),
        ("tcp://0.0.0.0:{port}", "tcp://[::]:{port}"),
        ("tcp://[::]:{port}", "tcp://127.0.0.1:{port}"),
    ],
)
def test_an_address_that_overlaps_an_open_one_is_refused_by_name(
    launch: Launch, before: str, after: str
) -> None:
    """A reload cannot exchange an address for one that overlaps it. The refusal names
    the listener of unpd's own and the remedy, and does not blame another program.
    """
    port = free_port()
    unpd = launch(f'services.echo.listen = ["{before.format(port=port)}"]')
    new = after.format(port=port)
    reason = refused_reload(unpd, f'services.daytime.listen = ["{new}"]')
    assert (
        f"service daytime cannot listen on {new}: unpd itself listens on"
        f" {before.format(port=port)} for service echo; a reload cannot exchange the two, restart"
        " unpd" in reason
    )
    assert echoes(("127.0.0.1", port))


def test_a_port_that_the_kernel_chose_is_refused_by_name(launch: Launch) -> None:
    """A new listener cannot have the port of one that stays open on port 0."""
    text = 'services.echo.listen = ["tcp://127.0.0.1:0"]\n'
    unpd = launch(text)
    port = unpd.port("echo")
    reason = refused_reload(unpd, f'{text}services.daytime.listen = ["tcp://127.0.0.1:{port}"]')
    assert f"unpd itself listens on tcp://127.0.0.1:{port} for service echo; use another" in reason


@requires_namespaces()
def test_two_names_of_one_interface_are_one_address(launch: Launch) -> None:
    """A link-local address with the number of its interface is the same as with the
    name.
    """
    with namespace() as net, interface(net), net.entered():
        unpd = launch(SCOPED)
        number = f"tcp://[{LINK_LOCAL}%{socket.if_nametoindex('wire0')}]:{PORT}"
        reason = refused_reload(unpd, f'services.echo.listen = ["{number}"]')
        assert f"unpd itself listens on tcp://[{LINK_LOCAL}%wire0]:{PORT} for service" in reason
        assert unpd.stop() == 0


# the file of a UNIX listener


def test_a_removed_socket_file_is_made_again(launch: Launch, tmp_path: Path) -> None:
    """When a cleaner removes the file of a UNIX listener, a new one is there within
    seconds, with its mode. A connection of the old one goes on.
    """
    path = tmp_path / "echo.sock"
    text = listening_on(path, 'socket_mode = "0640"\n')
    unpd = launch(text)
    with clients.connect(str(path)) as old:
        path.unlink()
        # A half-written change of the file is nobody's business.
        unpd.config_path.write_text("[nonsense")
        renewed = unpd.wait_event("listener.renewed", service="echo")
        assert renewed.fields["reason"] == "its file was removed"
        unpd.wait_event("reload.succeeded", generation=2)
        assert echoes(str(path))
        assert path.stat().st_mode & 0o7777 == 0o640
        old.sendall(b"still here")
        assert clients.read_exactly(old, 10) == b"still here"
    until(lambda: degraded(unpd) == [], 5.0, "the fault to end")
    assert unpd.stop() == 0
    assert not path.exists()


@pytest.mark.slow
def test_the_file_of_another_program_is_not_replaced(launch: Launch, tmp_path: Path) -> None:
    """Another program listens at the path. The daemon says so once, leaves the file
    alone, and takes the path back when it is free.
    """
    path = tmp_path / "echo.sock"
    unpd = launch(listening_on(path))
    unpd.expect_errors("listener.broken")
    with another_listens_at(path):
        broken = unpd.wait_event("listener.broken", service="echo")
        assert "in use by another program" in broken.fields["reason"]
        shown_broken(unpd, 1)
        says_once_and_leaves_alone(unpd, "listener.broken", path)
        path.unlink()
    unpd.wait_event("listener.renewed", service="echo")
    unpd.wait_event("reload.succeeded", generation=2)
    assert echoes(str(path))


@pytest.mark.slow
def test_a_directory_that_comes_back_has_its_socket_again(launch: Launch, tmp_path: Path) -> None:
    """While the directory is gone the daemon says so once. When it is there again, so
    is the socket.
    """
    place = tmp_path / "place"
    place.mkdir()
    unpd = launch(listening_on(place / "echo.sock"))
    unpd.expect_errors("listener.broken")
    shutil.rmtree(place)
    broken = unpd.wait_event("listener.broken", service="echo")
    assert broken.fields["reason"] == "the directory does not exist"
    place.mkdir()
    unpd.wait_event("listener.renewed", service="echo")
    unpd.wait_event("reload.succeeded", generation=2)
    assert echoes(str(place / "echo.sock"))
    assert len(unpd.log_events("listener.broken")) == 1


@pytest.mark.slow
def test_a_service_that_nobody_reaches_is_not_ready(launch: Launch, tmp_path: Path) -> None:
    """While no listener of a service can be reached, /readyz and the status say so. One
    listener of a service is enough, and the exporter's own does not count.
    """
    place = tmp_path / "place"
    place.mkdir()
    services = (
        f'services.echo.listen = ["unix://{place}/echo.sock"]\n'
        f'services.daytime.listen = ["unix://{place}/daytime.sock", "tcp://127.0.0.1:0"]\n'
    )
    unpd = launch(services)
    unpd.expect_errors("listener.broken")
    shutil.rmtree(place)
    until(lambda: unpd.get("/readyz").status == 503, 10.0, "the service to be out of reach")
    assert unpd.get("/readyz").body == b"clients reach no listener of service echo\n"
    assert status(unpd)["ready"] is False
    assert ": not ready, " in unpd.run("status", "--control", str(unpd.control)).stdout.decode()
    place.mkdir()
    until(lambda: unpd.get("/readyz").status == 200, 10.0, "the service to be in reach again")
    assert status(unpd)["ready"] is True
    assert echoes(str(place / "echo.sock"))


def test_the_exporters_socket_file_is_made_again(launch: Launch, tmp_path: Path) -> None:
    """The same for the listener of the exporter."""
    path = tmp_path / "metrics.sock"
    unpd = launch(f'[metrics]\nlisten = "unix://{path}"\n')
    path.unlink()
    unpd.wait_event("listener.renewed", service="metrics")
    unpd.wait_event("reload.succeeded", generation=2)
    assert unpd.get("/healthz").status == 200


@pytest.mark.slow
def test_the_store_has_the_new_listener(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """After a renewal the descriptor store has the new listener alone, so that a crash
    refuses no client.
    """
    path = tmp_path / "echo.sock"
    unpd = systemd.start(launch, listening_on(path))
    path.unlink()
    unpd.wait_event("listener.renewed", service="echo")
    unpd.wait_event("reload.succeeded", generation=2)
    until(lambda: stored(systemd, path) == [path.stat().st_ino], 5.0, "the store to have it")
    systemd.kill(unpd)
    with clients.connect(str(path)) as waiting:
        waiting.sendall(b"patience")
        waiting.shutdown(socket.SHUT_WR)
        second = systemd.start(launch, listening_on(path))
        assert clients.read_all(waiting) == b"patience"
    second.expect_leftover(path)
    assert second.stop() == 0


def stored(systemd: FakeSystemd, path: Path) -> list[int]:
    """The inodes in the names of the stored listeners at ``path``."""
    systemd.hear()
    found = []
    for name, fd in systemd.store:
        if name != "unpd-scoreboard":
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.getsockname() == str(path):
                    found.append(int(name.rpartition("-")[2]))
    return found
