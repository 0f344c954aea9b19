"""The clients against a real daemon with every built-in service, over every kind of
socket, by the addresses that its status prints.
"""

import json
import re
from pathlib import Path

import pytest

from tests.support.client_process import PATIENCE_S, Ended, StartClient, complaint
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from unpd.cli.client.report import BULK_FIELDS, MEASURED_FIELDS
from unpd.names import ClientExit
from unpd.services.chargen import lines
from unpd.services.table import SERVICES

KINDS = ("tcp", "udp", "unix", "unixgram")
NAMES = [name for name, row in SERVICES.items() if row.datagram and row.rfc]
QUOTATION = "An answer may be long: " + "x" * 200


@pytest.fixture
def unpd(launch: Launch, tmp_path: Path) -> Unpd:
    """A daemon with every service over every kind of socket that it knows."""
    own = {"qotd": f'text = "{QUOTATION}"\n', "daytime": 'format = "iso8601"\ntimezone = "UTC"\n'}
    text = "[pools.default]\nworkers = 1\n"
    for name in NAMES:
        text += (
            f'[services.{name}]\nlisten = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0",'
            f' "unix://{tmp_path}/{name}.sock", "unixgram://{tmp_path}/{name}.dgram"]\n'
            f"datagram_rate = 0\n{own.get(name, '')}"
        )
    text += '[services.tcpmux]\nlisten = ["tcp://127.0.0.1:0"]\nservices = ["echo", "daytime"]\n'
    return launch(text)


def printed(unpd: Unpd) -> dict[tuple[str, str], str]:
    """Return the addresses that ``unpd status`` prints, by service and kind."""
    said = unpd.run("status", "--control", str(unpd.control)).stdout.decode()
    rows = [re.split("  +", line) for line in said.splitlines()]
    addresses = {
        (row[0], row[1].partition(":")[0]): row[1]
        for row in rows
        if row[0] in {*NAMES, "tcpmux"} and "://" in row[1]
    }
    assert len(addresses) == len(NAMES) * len(KINDS) + 1, said
    return addresses


@pytest.mark.slow
def test_every_service_answers_its_client(unpd: Unpd, start: StartClient) -> None:
    """An address that the status prints is enough, for each service and kind of
    socket, and each client prints what its service says.
    """
    running = {
        (name, kind): start(name, address)
        for (name, kind), address in printed(unpd).items()
        if name not in ("chargen", "tcpmux")
    }
    ended = {key: client.ended(b"one\ntwo\n") for key, client in running.items()}
    assert [(key, each) for key, each in ended.items() if each.exit_code or each.errors] == []
    for kind in KINDS:
        assert ended["echo", kind].output == b"one\ntwo\n"
        assert ended["discard", kind].output == b""
        assert ended["qotd", kind].output == f"{QUOTATION}\r\n".encode()
        daytime = ended["daytime", kind].output
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\r\n", daytime)
        said = re.fullmatch(
            rb"\d{4}(?:-\d\d){2} \d\d(?::\d\d){2} UTC\n"
            rb"offset ([+-][\d.]+) s \(give or take ([\d.]+) s\)\n",
            ended["time", kind].output,
        )
        assert said
        assert abs(float(said[1])) <= float(said[2]) + 0.1


def test_chargen_is_printed(unpd: Unpd, start: StartClient) -> None:
    """Over a stream the characters come until the reader has gone, which ends the
    client quietly; over datagrams one answer comes.
    """
    addresses = printed(unpd)
    for kind in ("tcp", "unix"):
        client = start("chargen", addresses["chargen", kind])
        assert client.read(2 * len(lines())) == lines() * 2
        assert client.process.stdout is not None
        assert client.process.stderr is not None
        client.process.stdout.close()
        assert client.process.wait(PATIENCE_S) == ClientExit.FAILED
        assert client.process.stderr.read() == b""
    for kind in ("udp", "unixgram"):
        ended = start("chargen", addresses["chargen", kind]).ended()
        assert (ended.exit_code, ended.errors) == (0, "")
        assert 0 < len(ended.output) <= 512
        assert lines().startswith(ended.output)


def test_udp_and_a_port_say_the_same_as_an_address(unpd: Unpd, start: StartClient) -> None:
    """``--udp HOST PORT`` sends datagrams, and so does ``--udp PATH``."""
    port = unpd.port("echo", 1)
    path = str(unpd.address("echo", 3))
    for words in (("--udp", "127.0.0.1", port), ("--udp", path)):
        assert start("echo", *words).ended(b"hello\n") == Ended(0, b"hello\n", "")
    unpd.metric_becomes(2, "unpd_datagrams_received_total", service="echo")


def test_tcpmux_lists_offers_and_refuses(unpd: Unpd, start: StartClient) -> None:
    """Without a name the client prints the names, with one it talks with the service; a
    name that is not offered ends with 3 and the server's words.
    """
    address = printed(unpd)["tcpmux", "tcp"]
    assert start("tcpmux", address).ended() == Ended(0, b"echo\r\ndaytime\r\n", "")
    echo = start("tcpmux", address, "--name", "ECHO")
    echo.type(b"hello\n")
    assert echo.read(6) == b"hello\n"
    assert echo.ended() == Ended(0, b"", "")
    daytime = start("tcpmux", address, "--name", "daytime").ended_by_itself()
    assert (daytime.exit_code, len(daytime.output), daytime.errors) == (0, 27, "")
    refused = start("tcpmux", address, "--name", "discard").ended()
    assert complaint(refused, ClientExit.REFUSED).endswith("(There is no such service)")


def test_round_trips_are_measured_over_every_kind(unpd: Unpd, start: StartClient) -> None:
    """All answers come; the JSON has its fields, and over TCP the retransmits."""
    addresses = printed(unpd)
    words = ("--count", 5, "--interval", 0.1, "--size", 1000)
    as_json = {kind: start("echo", addresses["echo", kind], *words, "--json") for kind in KINDS}
    as_text = {kind: start("echo", addresses["echo", kind], *words) for kind in KINDS}
    for kind in KINDS:
        ended = as_json[kind].ended()
        assert (ended.exit_code, ended.errors) == (0, "")
        result = json.loads(ended.output)
        assert list(result) == list(MEASURED_FIELDS)
        assert (result["sent"], result["received"], result["lost"]) == (5, 5, 0)
        assert (result["transport"], result["size_bytes"]) == (kind, 1000)
        times = result["round_trip_ms"]
        assert 0 < times["min"] <= times["avg"] <= times["max"] == times["p99"]
        assert isinstance(result["retransmits"], int) == (kind == "tcp")
        heading, *live, _, _, counts, spread = (
            as_text[kind].ended().output.decode().split("\n0 segments")[0].splitlines()
        )
        assert heading.endswith(": 1000 bytes, every 0.1 s")
        assert [line.partition(" time=")[0] for line in live] == [
            f"1000 bytes: seq={number}" for number in range(1, 6)
        ]
        assert counts.startswith("5 sent, 5 received, 0 lost (0%), time ")
        assert spread.startswith("round trip min/avg/max/mdev/p99 = ")


@pytest.mark.slow
def test_the_throughput_is_measured_over_every_kind(unpd: Unpd, start: StartClient) -> None:
    """Bytes go both ways; over a stream each one comes back, and over datagrams most,
    because only a few are under way.
    """
    addresses = printed(unpd)
    for kind in KINDS:
        ended = start("echo", addresses["echo", kind], "--bulk", 0.2, "--json").ended()
        assert (ended.exit_code, ended.errors) == (0, "")
        result = json.loads(ended.output)
        assert list(result) == [*list(MEASURED_FIELDS)[:7], *BULK_FIELDS]
        assert 0 < result["received_bytes"] <= result["sent_bytes"]
        assert result["sent_bytes_per_s"] > 0
        assert isinstance(result["retransmits"], int) == (kind == "tcp")
        if kind in ("tcp", "unix"):
            assert result["received_bytes"] == result["sent_bytes"]
            assert result["sent_datagrams"] is None
        else:
            assert result["received_datagrams"] >= 0.5 * result["sent_datagrams"]
            assert result["sent_bytes"] == 1400 * result["sent_datagrams"]
    text = start("echo", addresses["echo", "udp"], "--bulk", 0.1).ended().output.decode()
    for way in ("sent", "received"):
        assert re.search(rf"^{way} \d+ bytes in \d+\.\d\d s: [\d.]+ MB/s$", text, re.MULTILINE)
