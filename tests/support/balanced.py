"""Three unpd behind HAProxy, each in a network namespace with the addresses of the
section MORE THAN ONE MACHINE of unpd(8), with the configurations that stand there.

Only these differ: each unpd logs connections, and so does HAProxy, whose files lie in
the test's directory and which takes :data:`CLIENTS`; and the lame time of the third
machine is long, for a test that says when it ends. The tests of that section use it.
"""

import contextlib
import csv
import os
import re
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from types import MappingProxyType

from tests.support import ROOT, clients
from tests.support.daemon import Unpd
from tests.support.documented import changed
from tests.support.faults import Namespace, find_tool, namespace
from tests.support.launch import Launch
from tests.support.manual import example
from tests.support.operating import status
from tests.support.waiting import until

PAGE = "unpd.8"
BALANCER = "10.0.0.10"
HOSTS: Mapping[str, str] = MappingProxyType(
    {"one": "10.0.0.11", "two": "10.0.0.12", "three": "10.0.0.13"}
)
"""The machines of unpd, by their names in HAProxy."""


@dataclass(frozen=True, slots=True)
class Family:
    """The addresses of one version of IP. ``front``: where clients reach HAProxy.
    ``suspect``: the client that the manual denies. ``same_source``: a client that
    counts as the same source. ``denied``: the set of nftables.
    """

    front: str
    client: str
    suspect: str
    same_source: str
    denied: str


IPV4 = Family("198.51.100.254", "198.51.100.1", "192.0.2.7", "192.0.2.7", "denied4")
IPV6 = Family("2001:db8:1::fe", "2001:db8:1::1", "2001:db8:7::7", "2001:db8:7::8", "denied6")
FAMILIES = (IPV4, IPV6)
PORT = 7
CONNECTIONS = "\n[log]\nconnections = true\n"
PATIENCE_S = 20.0
CLIENTS = 1000
"""HAProxy's limit: it takes two descriptors for each, and a test may not have many."""

SECTION = (
    (ROOT / "packaging/man" / PAGE)
    .read_text()
    .split(".Sh MORE THAN ONE MACHINE\n", 1)[1]
    .split("\n.Sh ", 1)[0]
)
_FOR_HAPROXY = re.compile(r"^# echo '(.*)' \| socat - /run/haproxy/admin\.sock$", re.MULTILINE)


def orders() -> list[str]:
    """Return what the manual tells HAProxy, in its order."""
    return _FOR_HAPROXY.findall(SECTION)


def commands(program: str) -> list[list[str]]:
    """Return the arguments of each command of a program in the section, split at
    spaces; what stands in quotes is one.
    """
    lines = re.findall(rf"^# {program} (.*)$", SECTION, re.MULTILINE)
    return [
        [quoted or plain for quoted, plain in re.findall(r"'([^']*)'|(\S+)", line)]
        for line in lines
    ]


@dataclass(frozen=True, slots=True)
class Machines:
    """The namespaces. ``clients`` has the addresses of the clients."""

    balancer: Namespace
    clients: Namespace
    hosts: Mapping[str, Namespace]


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """Make the namespaces, each with a wire to the load balancer's."""
    with contextlib.ExitStack() as stack:
        balancer, outside = (stack.enter_context(namespace()) for _ in range(2))
        hosts = {name: stack.enter_context(namespace()) for name in HOSTS}
        for name, host in HOSTS.items():
            _join(balancer, hosts[name], name)
            balancer.ip("address", "add", BALANCER, "peer", host, "dev", name)
            hosts[name].ip("address", "add", host, "peer", BALANCER, "dev", "wire")
        _join(balancer, outside, "outside")
        for client in (IPV4.client, IPV4.suspect):
            network = client.rpartition(".")[0]
            balancer.ip("address", "add", f"{network}.254/24", "dev", "outside")
            outside.ip("address", "add", f"{client}/24", "dev", "wire")
        for client in (IPV6.client, IPV6.suspect, IPV6.same_source):
            # Nobody else is there whose address could be the same (nodad).
            outside.ip("address", "add", f"{client}/64", "dev", "wire", "nodad")
        for network in {client.rpartition("::")[0] for client in (IPV6.client, IPV6.suspect)}:
            balancer.ip("address", "add", f"{network}::fe/64", "dev", "outside", "nodad")
        yield Machines(balancer, outside, hosts)


def _join(one: Namespace, other: Namespace, name: str) -> None:
    one.ip("link", "add", name, "type", "veth", "peer", "name", "wire", "netns", other.name)
    one.ip("link", "set", name, "up")
    other.ip("link", "set", "wire", "up")


LAME_DUCK = "lame_duck_s = 4"
"""The manual's line."""
HELD_LAME = "three"
"""The machine that stays lame until its test ends that, however busy we are."""
LOGGED = "    log stdout format raw local0\n    log-format '%ci:%cp %s'\n"
"""HAProxy writes the client and its machine when a connection has ended."""


class Balancer:
    """A running HAProxy with the configuration of the manual, and ``more`` lines at its
    end. ``denied``: what its list has from the start. AssertionError if HAProxy has a
    complaint.
    """

    def __init__(self, where: Namespace, directory: Path, more: str, denied: str) -> None:
        self.control, self.denied = directory / "admin.sock", directory / "denied.lst"
        self.denied.write_text(denied)
        self._log = directory / "haproxy.log"
        config = directory / "haproxy.cfg"
        text = changed(example(PAGE, "global"), {"maxconn 20000": f"maxconn {CLIENTS}"})
        config.write_text(self.placed(text + LOGGED + more))
        command = [*where.prefix, find_tool("haproxy") or "haproxy", "-f", str(config)]
        checked = subprocess.run([*command, "-c"], capture_output=True, text=True, check=False)
        said = checked.stdout + checked.stderr
        assert checked.returncode == 0, said
        assert "[WARNING]" not in said, said
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-db"], stdin=subprocess.DEVNULL, stdout=log
            )
        until(self.control.exists, PATIENCE_S, "HAProxy")

    def placed(self, text: str) -> str:
        """Return a text of the manual with the places of this HAProxy's files."""
        places = {
            "/run/haproxy/admin.sock": str(self.control),
            "/etc/haproxy/denied.lst": str(self.denied),
        }
        return changed(text, {old: new for old, new in places.items() if old in text})

    def perform(self, order: str) -> str:
        """Have HAProxy perform a command of its management; return what it says."""
        with clients.connect(str(self.control)) as sock:
            sock.sendall(f"{self.placed(order)}\n".encode())
            return clients.read_all(sock).decode()

    def turn(self, name: str, state: str) -> None:
        """Put a machine into a state, maint or ready, and wait for that."""
        self.perform(f"set server unpd/{name} state {state}")
        self.becomes(name, {"maint": "MAINT", "ready": "UP"}[state])

    def becomes(self, name: str, status: str) -> None:
        """Wait until HAProxy calls a machine UP, DOWN, DRAIN or MAINT."""
        until(
            lambda: self._statuses()[name] == status,
            PATIENCE_S,
            lambda: f"{name} to be {status}: {self._statuses()}",
        )

    def _statuses(self) -> dict[str, str]:
        rows = csv.DictReader(self.perform("show stat").lstrip("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows}

    def machines_of(self, peers: Collection[str]) -> set[str]:
        """Wait until the connections of these clients have ended, and return the
        machines that had them.
        """

        def logged() -> dict[str, str]:
            return dict(re.findall(r"^(\S+) (\S+)\n", self._log.read_text(), re.MULTILINE))

        until(
            lambda: logged().keys() >= set(peers),
            PATIENCE_S,
            lambda: f"HAProxy to log {set(peers) - logged().keys()}",
        )
        return {name for peer, name in logged().items() if peer in peers}

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class Site:
    """The whole. ``unpds``: the daemon of each machine that :meth:`start` has started.
    ``balancer`` starts after them.
    """

    balancer: Balancer

    def __init__(self, launch: Launch, net: Machines) -> None:
        self.net = net
        self._launch = launch
        self.unpds: dict[str, Unpd] = {}

    def start(self, name: str, program: Path | None = None) -> None:
        """Start unpd on a machine, and wait until it is ready. ``program``: the
        directory of another unpd than ours.
        """
        lame = "lame_duck_s = 600" if name == HELD_LAME else LAME_DUCK
        changes = {HOSTS["one"]: HOSTS[name], LAME_DUCK: lame}
        text = changed(example(PAGE, "[daemon]\nlame"), changes)
        env = {"PYTHONPATH": str(program)} if program else {}
        prefix = self.net.hosts[name].prefix
        self.unpds[name] = self._launch(text + CONNECTIONS, prefix=prefix, env=env)

    def stop(self, name: str) -> None:
        """End the daemon of a machine, if it runs, without its lame time."""
        unpd = self.unpds.get(name)
        if unpd and unpd.process.poll() is None:
            unpd.stop(SIGINT)

    def version(self, name: str) -> str:
        """The version that a machine's daemon reports and shows in its metrics."""
        unpd = self.unpds[name]
        found = status(unpd)["version"]
        with self.net.balancer.entered():
            assert unpd.total("unpd_build_info", version=found) == 1
        return str(found)

    def connect(self, source: str, *, timeout_s: float = 10.0) -> socket.socket:
        """Connect a client through HAProxy."""
        front = (IPV6 if ":" in source else IPV4).front
        with self.net.clients.entered():
            return clients.connect((front, PORT), source=source, timeout_s=timeout_s)

    def serves(self, source: str) -> bool:
        """Whether a new client is served, rather than refused."""
        try:
            with self.connect(source) as sock:
                return speaks(sock)
        except ConnectionError:
            return False

    def started(self, name: str) -> set[str]:
        """The clients that a machine's daemon, as it runs now, has let in."""
        lines = self.unpds[name].log_events("connection.started", service="echo")
        return {line.fields["peer"] for line in lines}


def speaks(sock: socket.socket) -> bool:
    """Whether a byte comes back on a connection."""
    try:
        sock.sendall(b"x")
        return clients.read_exactly(sock, 1) == b"x"
    except ConnectionError:
        return False


def own_address(sock: socket.socket) -> str:
    """The address of a client, as a log has it."""
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


@contextlib.contextmanager
def site(launch: Launch, directory: Path, more: str = "", denied: str = "") -> Iterator[Site]:
    """Start three unpd, and HAProxy with ``more`` lines in its front end and the
    networks ``denied`` in its list. All of them end with the block, however it ends.
    """
    with machines() as net, contextlib.ExitStack() as stack:
        made = Site(launch, net)
        for name in HOSTS:
            stack.callback(made.stop, name)
            made.start(name)
        made.balancer = Balancer(net.balancer, directory, more, denied)
        stack.callback(made.balancer.end)
        for name in HOSTS:
            made.balancer.becomes(name, "UP")
        yield made


def run_there(where: Namespace, *command: str, data: str = "") -> None:
    """Run a command in a namespace. CalledProcessError if it fails."""
    program = find_tool(command[0]) or command[0]
    subprocess.run(
        [*where.prefix, program, *command[1:]],
        input=data,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
