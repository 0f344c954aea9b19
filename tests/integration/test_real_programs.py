"""Programs of others against the standard ports, in a network of their own: rdate, the
checks of monitoring-plugins, nmap, and the clients of UNIX Network Programming.

The book's programs are in no package. So :file:`tests/support/book_client.c` is a
client of ours that makes the same system calls as the book's str_cli and dg_cli do, and
the tests run that one.

Known gap: neither `make test-slow` nor `.ci/run` runs the book's own clients.
UNPD_TEST_UNPV13E=DIR, where DIR is the book's source after its configure and make, runs
them as well. They were run so once, by hand, against unpd and against the book's
servers, and printed the same.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from tests.support.daemon import Unpd
from tests.support.faults import Namespace
from tests.support.launch import Launch

pytestmark = [faults.requires_root, faults.requires_namespaces()]

HOST = "127.0.0.1"
PLUGINS = "/usr/lib/nagios/plugins"
"""Where Debian has the checks, which are not on PATH."""
PORTS = {"echo": 7, "discard": 9, "daytime": 13, "chargen": 19, "time": 37}
BOOK_PORT = 9877
"""SERV_PORT of the book."""
BOOK_DIRECTORY = os.environ.get("UNPD_TEST_UNPV13E", "")
BOOK = tuple(
    name
    for name in (
        *("tcpcliserv/tcpcli01", "tcpcliserv/tcpcli04", "tcpcliserv/tcpcli05"),
        *("tcpcliserv/tcpcli10", "tcpcliserv/tcpcli11", "udpcliserv/udpcli01"),
        *("udpcliserv/udpcli02", "udpcliserv/udpcli03", "udpcliserv/udpcli04"),
    )
    if BOOK_DIRECTORY
)
"""The book's clients of echo that end on their own."""
PATIENCE_S = 60.0
CLOCK_S = 30
"""How much older than now a time may be that a program prints on a busy machine."""
LINES = "hello, world\n\nthe last line\n"


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon that serves every service on its standard port, and its network."""

    unpd: Unpd
    network: Namespace

    def run(self, *command: str, text: str = "") -> str:
        """Run a program of others there. Return its output. AssertionError if its exit
        code is not 0.
        """
        ended = subprocess.run(
            [*self.network.prefix, *command],
            input=text,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout


@pytest.fixture
def served(launch: Launch) -> Iterator[Served]:
    """The daemon. Echo is on the book's port, too."""
    text = f'[metrics]\nlisten = "unix://{launch.directory}/metrics.sock"\n'
    for name, port in PORTS.items():
        ports = (port, BOOK_PORT) if name == "echo" else (port,)
        listen = [f'"{kind}://0.0.0.0:{one}"' for kind in ("tcp", "udp") for one in ports]
        text += f"[services.{name}]\nlisten = [{', '.join(listen)}]\n"
    with faults.namespace() as network:
        unpd = launch(text, prefix=network.prefix)
        yield Served(unpd, network)
        assert unpd.stop() == 0


# rdate, monitoring-plugins


@faults.requires_tool("rdate")
@pytest.mark.parametrize("options", [("-p",), ("-p", "-u")], ids=["tcp", "udp"])
def test_rdate_prints_the_time(served: Served, options: Sequence[str]) -> None:
    """``rdate -p`` and ``rdate -p -u`` print the time that the service time says."""
    before = int(time.time())
    output = served.run("rdate", *options, HOST)
    said = time.mktime(time.strptime(output, "%a %b %d %H:%M:%S UTC %Y\n")) - time.timezone
    assert before <= said <= before + CLOCK_S


@faults.requires_tool(f"{PLUGINS}/check_time")
@pytest.mark.parametrize("options", [(), ("-u",)], ids=["tcp", "udp"])
def test_check_time_is_content(served: Served, options: Sequence[str]) -> None:
    """The clock of unpd's host differs from that of the monitoring host by less than
    the limits.
    """
    limits = ("-w", str(CLOCK_S), "-c", str(2 * CLOCK_S))
    output = served.run(f"{PLUGINS}/check_time", "-H", HOST, *limits, *options)
    assert output.startswith("TIME OK - ")


@faults.requires_tool(f"{PLUGINS}/check_tcp")
def test_check_tcp_finds_what_it_expects(served: Served) -> None:
    """It gets its own line from echo, the pattern from chargen, and the year from
    daytime; and discard and time are open.
    """
    year = time.strftime("%Y")
    for name, expected in (
        ("echo", ("-s", "hello", "-e", "hello")),
        ("chargen", ("-e", "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[")),
        ("daytime", ("-e", year)),
        ("discard", ("-s", "hello")),
        ("time", ()),
    ):
        port = ("-p", str(PORTS[name]))
        output = served.run(f"{PLUGINS}/check_tcp", "-H", HOST, *port, *expected)
        assert output.startswith("TCP OK - "), name


@faults.requires_tool(f"{PLUGINS}/check_udp")
def test_check_udp_finds_what_it_expects(served: Served) -> None:
    """It gets its own datagram from echo, the beginning of the pattern from chargen
    (whose answers have any length from 1 on), and the year from
    daytime.
    """
    year = time.strftime("%Y")
    for name, expected in (("echo", "hello"), ("chargen", " "), ("daytime", year)):
        expects = ("-s", "hello", "-e", expected)
        output = served.run(f"{PLUGINS}/check_udp", "-H", HOST, "-p", str(PORTS[name]), *expects)
        assert output.startswith("UDP OK - "), name


# nmap


def scan(served: Served, *arguments: str) -> set[str]:
    """What ``nmap -sV`` finds at each port, as "7/open/tcp//echo///"."""
    output = served.run("nmap", "-n", "-Pn", "-sV", "-oG", "-", *arguments, HOST)
    (line,) = [line for line in output.splitlines() if "\tPorts: " in line]
    return set(line.partition("\tPorts: ")[2].split("\t")[0].split(", "))


@pytest.mark.slow
@faults.requires_tool("nmap")
def test_nmap_names_the_services(served: Served) -> None:
    """From their answers: over TCP and over UDP. Of daytime over UDP, it knows only
    answers in which the day of the month has two digits, as that of AIX.
    """
    assert scan(served, "-p", "7,13,19,37") == {
        "7/open/tcp//echo///",
        "13/open/tcp//daytime///",
        "19/open/tcp//chargen///",
        "37/open/tcp//time//(32 bits)/",
    }
    expected = {"7/open/udp//echo", "19/open/udp//chargen", "37/open/udp//time"}
    if time.localtime().tm_mday >= 10:
        expected.add("13/open/udp//daytime")
    ports = ",".join(found.split("/")[0] for found in expected)
    # What follows the name depends on the length of the answer, which chargen draws.
    names = {"/".join(found.split("/")[:5]) for found in scan(served, "-sU", "-p", ports)}
    assert names == expected


@pytest.mark.slow
@faults.requires_tool("nmap")
def test_nmap_can_only_guess_discard(served: Served) -> None:
    """It answers no probe, so nmap has only the number of the port. (With all of its
    probes it finds the same, in two minutes.)
    """
    assert scan(served, "--version-intensity", "0", "-p", "9") == {"9/open/tcp//discard?///"}
    assert scan(served, "-sU", "--version-intensity", "1", "-p", "9") == {
        "9/open|filtered/udp//discard///"
    }


# UNIX Network Programming


@pytest.fixture(scope="session")
def book_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our client that makes the book's system calls, compiled."""
    program = tmp_path_factory.mktemp("book") / "book_client"
    source = ROOT / "tests/support/book_client.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    return program


@faults.requires_tool("gcc")
@pytest.mark.parametrize("mode", ["str_cli", "str_cli_select", "dg_cli", "dg_cli_connect", *BOOK])
def test_clients_like_those_of_the_book_get_their_lines(
    served: Served, book_client: Path, mode: str
) -> None:
    """A client that makes the calls of the book's str_cli (with readline, or with
    select and shutdown) or of its dg_cli (unconnected, or connected) gets what the
    book's servers give it: each line as it sent it, from the address that it asked. It
    is not the book's own program; UNPD_TEST_UNPV13E adds those.
    """
    if mode in BOOK:
        output = served.run(f"{BOOK_DIRECTORY}/{mode}", HOST, text=LINES)
        lines = output.splitlines(keepends=True)
        assert "".join(one for one in lines if not one.startswith("received reply")) == LINES
        return
    for port in (PORTS["echo"], BOOK_PORT):
        assert served.run(str(book_client), mode, HOST, str(port), text=LINES) == LINES


@faults.requires_tool("gcc")
def test_a_client_like_that_of_the_book_gets_the_longest_datagram(
    served: Served, book_client: Path
) -> None:
    """As the book's dgclibig: a datagram of 65,507 bytes comes back whole. It is not
    the book's own program.
    """
    output = served.run(str(book_client), "dg_cli_big", HOST, str(PORTS["echo"]))
    assert output == "received 65507 bytes\n"
