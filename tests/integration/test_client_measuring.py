"""The clients over datagrams and the measurements against servers that lose, double,
delay and forge answers, and what Ctrl-C does.
"""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients
from tests.support.client_process import (
    PATIENCE_S,
    Running,
    StartClient,
    complaint,
    drop_time,
)
from tests.support.waiting import until
from unpd.cli.client import connect, datagrams
from unpd.cli.client.failures import ClientFailure
from unpd.cli.client.framing import Lines
from unpd.cli.client.interrupts import Interrupts
from unpd.cli.client.lines import Ends, LineDatagrams
from unpd.cli.client.ping import Measurement, Plan
from unpd.cli.client.probes import Coder, StreamProbe
from unpd.cli.client.streams import Output
from unpd.cli.client.targets import Target
from unpd.names import ClientExit

F_SETPIPE_SZ = 1031
END = b"the end of the test"
Behaviour = Callable[[socket.socket, bytes, Any, int], None]
"""What a server does with a datagram: its socket, the bytes, the sender, the number."""


@contextmanager
def receiving(behaviour: Behaviour) -> Iterator[int]:
    """Provide a UDP server. Yields its port. Its failure fails the test."""

    def serve(server: socket.socket) -> None:
        number = 0
        while True:
            data, sender = server.recvfrom(1 << 16)
            if data == END:
                return
            number += 1
            behaviour(server, data, sender, number)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ThreadPoolExecutor(1) as pool:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE_S)
        served = pool.submit(serve, server)
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(END, server.getsockname())
            served.result(PATIENCE_S)


def echo(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
    """Echo, as a correct server does."""
    server.sendto(data, sender)


def swallow(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
    """Answer nothing."""


@contextmanager
def closed_udp_port() -> Iterator[int]:
    """Provide a port at which no process receives UDP: a connected socket holds it, so
    that no other program takes it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.connect(("127.0.0.1", 9))
        yield holder.getsockname()[1]


@contextmanager
def streaming(behaviour: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one TCP connection with ``behaviour``, then close it. Yields the port."""

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.settimeout(PATIENCE_S)
            behaviour(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE_S)
        served = pool.submit(serve, listener)
        yield listener.getsockname()[1]
        served.result(PATIENCE_S)


@contextmanager
def listening_only() -> Iterator[int]:
    """Provide a port where the kernel completes connections and no process reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def measured(client: Running) -> dict[str, Any]:
    """Return the JSON of a measurement that has ended well."""
    ended = client.ended()
    assert (ended.exit_code, ended.errors) == (0, ""), ended
    return dict(json.loads(ended.output))


def read_line(client: Running) -> str:
    """Return the next line of a client's standard output."""
    line = b""
    while not line.endswith(b"\n"):
        byte = client.read(1)
        assert byte, line
        line += byte
    return line.decode().rstrip("\n")


# --- answers that are lost, doubled, late, forged -------------------------------------


def test_lost_answers_are_counted(start: StartClient) -> None:
    """A server that answers every other request: the others are lost."""

    def lose(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        if number % 2:
            server.sendto(data, sender)

    with receiving(lose) as port:
        words = ("--udp", "127.0.0.1", port, "--count", 6, "--interval", 0.2)
        result = measured(start("echo", "--json", *words))
    assert (result["sent"], result["received"], result["lost"]) == (6, 3, 3)
    assert (result["duplicates"], result["late"], result["strange"]) == (0, 0, 0)


def test_duplicates_are_counted_apart(start: StartClient) -> None:
    """A server that answers thrice: the second and third answers are no round trips."""

    def double(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        for _ in range(3 if number == 1 else 1):
            server.sendto(data, sender)

    with receiving(double) as port:
        ended = start("echo", "--udp", "127.0.0.1", port, "--count", 2, "--interval", 0.3).ended()
    assert ended.exit_code == 0
    text = ended.output.decode()
    assert len(re.findall(r"seq=1 time=\S+ ms \(duplicate\)$", text, re.MULTILINE)) == 2
    assert "2 sent, 2 received, 0 lost (0%), 2 duplicate, time" in text


def test_a_late_answer_counts_as_received_and_as_late(start: StartClient) -> None:
    """The answer to the first request comes with the third: its time was over, which a
    line had said, and it is no loss.
    """
    held: list[bytes] = []

    def delay(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        if number == 1:
            held.append(data)
            return
        if number == 3:
            server.sendto(held[0], sender)
        server.sendto(data, sender)

    with receiving(delay) as port:
        words = ("--udp", "127.0.0.1", port, "--count", 3, "--interval", 0.6, "--timeout", 0.5)
        ended = start("echo", *words).ended()
    assert ended.exit_code == 0
    text = ended.output.decode()
    assert "seq=1: no answer within 0.5 s\n" in text
    assert re.search(r"^56 bytes: seq=1 time=\d+ ms \(late\)$", text, re.MULTILINE)
    assert re.search(r"^3 sent, 3 received, 0 lost \(0%\), \d late, time", text, re.MULTILINE)


def test_forged_answers_are_strange(start: StartClient) -> None:
    """Other bytes, other sizes, nothing, and the answer to a request that was never
    sent are no answers, whatever their number.
    """

    def forge(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        future = data[:8] + struct.pack("!Q", 1 << 63) + data[16:]
        for forged in (b"", b"x" * 60_000, data[:-1], bytes(56), future, data):
            server.sendto(forged, sender)

    with receiving(forge) as port:
        words = ("--udp", "127.0.0.1", port, "--count", 2, "--interval", 0.3)
        result = measured(start("echo", "--json", *words))
    assert (result["received"], result["strange"], result["duplicates"]) == (2, 10, 0)


def test_answers_of_another_protocol_alone_are_recognised(start: StartClient) -> None:
    """A server whose datagrams are none of them answers is no echo server: exit code
    9.
    """

    def tell_the_time(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        server.sendto(b"Sun Nov 29 14:00:00 2026\r\n", sender)

    with receiving(tell_the_time) as port:
        words = ("--udp", "127.0.0.1", port, "--count", 2, "--interval", 0.1, "--timeout", 0.3)
        ended = start("echo", *words).ended()
    assert complaint(ended, ClientExit.ANOTHER_PROTOCOL).endswith(
        "(2 datagrams came, but no answer to 2 requests)"
    )


@pytest.mark.parametrize("service", ["daytime", "qotd", "chargen", "time", "echo"])
def test_an_answer_from_another_address_is_not_taken(start: StartClient, service: str) -> None:
    """A server that answers from another port has not answered: exit code 4."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))

        def answer(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
            other.sendto(b"1234", sender)

        with receiving(answer) as port:
            ended = start(service, "--udp", "--timeout", 0.4, "127.0.0.1", port).ended(b"x\n")
    assert "nothing came for 0.4 s" in complaint(ended, ClientExit.TIMED_OUT)
    assert ended.output == b""


# --- nothing comes, nobody receives ---------------------------------------------------


def test_a_measurement_without_an_answer_times_out(start: StartClient) -> None:
    """The summary is printed, and the exit code is 4."""
    with receiving(swallow) as port:
        words = ("--udp", "127.0.0.1", port, "--count", 2, "--interval", 0.1, "--timeout", 0.3)
        ended = start("echo", *words).ended()
    assert b"\n2 sent, 0 received, 2 lost (100%), time " in ended.output
    assert b"seq=1: no answer within 0.3 s\n" in ended.output
    assert drop_time(complaint(ended, ClientExit.TIMED_OUT)).endswith(
        "over UDP: timed out after T s (no answer to 2 requests within 0.3 s)"
    )


def test_a_bulk_without_an_answer_times_out(start: StartClient) -> None:
    """Nothing came back within the time: exit code 4."""
    with receiving(swallow) as port:
        ended = start("echo", "--udp", "127.0.0.1", port, "--bulk", 0.2).ended()
    assert complaint(ended, ClientExit.TIMED_OUT).endswith("(nothing came)")


@pytest.mark.parametrize("service", ["daytime", "qotd", "chargen", "time", "echo", "discard"])
def test_a_closed_udp_port_is_refused_in_words(start: StartClient, service: str) -> None:
    """The ICMP error ends the client at once with 3, long before the timeout."""
    with closed_udp_port() as port:
        ended = start(service, "--udp", "127.0.0.1", port).ended(b"anybody?\n")
    assert drop_time(complaint(ended, ClientExit.REFUSED)) == (
        f"{service} at 127.0.0.1 port {port} over UDP: refused: no process receives there"
        " after T s (Connection refused)"
    )


def test_a_measurement_goes_on_after_a_refusal(start: StartClient) -> None:
    """Each refusal is a line; without any answer the exit code is 3 at the end. The
    client does not wait for answers that cannot come.
    """
    with closed_udp_port() as port:
        words = ("--udp", "127.0.0.1", port, "--count", 3, "--interval", 0.1, "--timeout", 600)
        ended = start("echo", *words).ended()
        bulk = start("echo", "--udp", "127.0.0.1", port, "--bulk", 600).ended()
    text = ended.output.decode()
    assert [line for line in text.splitlines() if "refused" in line] == [
        f"seq={number}: refused, because no process receives there" for number in (1, 2, 3)
    ]
    assert "3 sent, 0 received, 3 lost (100%), 3 with errors, time" in text
    assert "refused: no process receives there" in complaint(ended, ClientExit.REFUSED)
    assert "refused: no process receives there" in complaint(bulk, ClientExit.REFUSED)


def test_a_refusal_of_one_address_leads_to_the_next() -> None:
    """Over datagrams, too, a name's next address is tried, and gets the line that the
    first one refused.
    """
    reading_end, writing_end = os.pipe()
    os.write(writing_end, b"hello\n")
    os.close(writing_end)
    printed_end, output_end = os.pipe()
    with closed_udp_port() as closed, receiving(echo) as port:
        client = LineDatagrams(
            Ends(reading_end, Output(output_end)), Lines(), PATIENCE_S, answered=True
        )
        candidates = tuple(
            connect.Candidate(socket.AF_INET, ("127.0.0.1", each)) for each in (closed, port)
        )
        datagrams.with_each(
            Target("name", 7, datagrams=True), candidates, lambda sock, _, __: client.run(sock)
        )
    assert os.read(printed_end, 100) == b"hello\n"
    for descriptor in (reading_end, printed_end, output_end):
        os.close(descriptor)


def test_all_addresses_that_refuse_are_named() -> None:
    """The exit code is that of the last one; a family that the kernel lacks is
    unreachable.
    """
    lacking = connect.Candidate(socket.AF_APPLETALK, ("192.0.2.1", 7))

    def raise_refusal(sock: socket.socket, candidate: connect.Candidate, others: bool) -> None:
        assert others is (candidate is lacking)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    refusing = connect.Candidate(socket.AF_INET, ("127.0.0.1", 9))
    with pytest.raises(ClientFailure) as failed:
        datagrams.with_each(Target("name", 7, datagrams=True), (lacking, refusing), raise_refusal)
    assert failed.value.exit_code is ClientExit.REFUSED
    assert failed.value.detail == (
        "tried 192.0.2.1: Address family not supported by protocol, then 127.0.0.1: Connection"
        " refused"
    )
    with pytest.raises(ClientFailure) as failed:
        connect.connect_any(Target("name", 7), (lacking,), PATIENCE_S)
    assert failed.value.exit_code is ClientExit.UNREACHABLE


def test_an_interface_that_is_missing_is_named(start: StartClient) -> None:
    """A zone of an IPv6 address that this machine lacks exits with 5."""
    ended = start("echo", "--udp", "fe80::1%nosuch").ended(b"x\n")
    assert complaint(ended, ClientExit.UNREACHABLE).endswith("(there is no interface nosuch)")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--udp", "--size", 65508, "h"), "--size 65508 does not fit a datagram of UDP"),
        (("--raw", "--count", 1, "h"), "--raw sends standard input"),
        (("--bulk", 1, "--count", 1, "h"), "--bulk sends without a pause"),
        (("tcp://h:70000",), "tcp://h:70000: the port must be a number from 1 to 65535"),
    ],
)
def test_contradictions_are_wrong_usage(
    start: StartClient, words: tuple[str | int, ...], sentence: str
) -> None:
    """One sentence and exit code 2, before a name is looked up."""
    assert complaint(start("echo", *words).ended(), ClientExit.USAGE).startswith(sentence)


def test_a_name_behind_tcpmux_is_checked(start: StartClient) -> None:
    """A control character would be another line of the protocol."""
    ended = start("tcpmux", "h", "--name", "a\nb").ended()
    assert complaint(ended, ClientExit.USAGE).startswith(r"--name a\nb: give 1 to 64 printable")


def fill(sender: socket.socket, path: str) -> None:
    """Send until the receiver's queue is full (unix(7), max_dgram_qlen)."""
    with suppress(BlockingIOError):
        while True:
            sender.sendto(b"x", path)


def test_a_unix_receiver_with_a_full_queue_times_out(start: StartClient, tmp_path: Path) -> None:
    """A UNIX datagram waits for room; without any, the exit code is 4, in words."""
    path = str(tmp_path / "full.dgram")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(path)
        sender.setblocking(False)
        fill(sender, path)
        asked = start("daytime", "--udp", "--timeout", 0.3, path).ended()
        measured_ = start("echo", f"unixgram://{path}", "--count", 2, "--interval", 0.05).ended()
    assert complaint(asked, ClientExit.TIMED_OUT).endswith("(the server's queue is full)")
    assert measured_.output.count(b": not sent, because the server's queue is full\n") == 2
    assert "the server's queue is full" in complaint(measured_, ClientExit.TIMED_OUT)


def test_a_datagram_that_is_too_long_is_told_in_words(start: StartClient, tmp_path: Path) -> None:
    """The kernel decides over a UNIX socket, and the path over UDP: then the words have
    the size that it takes (IP_MTU, ip(7)).
    """
    path = str(tmp_path / "echo.dgram")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        words = ("--count", 2, "--interval", 0.05, "--size", 1 << 20)
        ended = start("echo", f"unixgram://{path}", *words).ended()
    assert b"seq=1: too long for a datagram\nseq=2: too long" in ended.output
    assert "the datagram is too long" in complaint(ended, ClientExit.FAILED)
    too_long = OSError(errno.EMSGSIZE, "Message too long")
    with closed_udp_port() as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        assert re.fullmatch(
            r"too long for a datagram \(the path takes \d+ bytes with headers\)",
            datagrams.trouble_of(sock, too_long),
        )


# --- lines over datagrams -------------------------------------------------------------


def test_each_line_is_a_datagram(start: StartClient) -> None:
    """A line goes out with its newline, and the next one when it is answered; the
    longest datagram of UDP takes the beginning of a line that is too long.
    """
    got: list[bytes] = []

    def keep(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        got.append(data)
        server.sendto(data, sender)

    text = b"one\n\n" + b"x" * 65_508 + b"\nlast"
    with receiving(keep) as port:
        ended = start("echo", "--udp", "127.0.0.1", port).ended(text)
    assert (ended.exit_code, ended.output, ended.errors) == (0, text, "")
    assert got == [b"one\n", b"\n", b"x" * 65_507, b"x\n", b"last"]


def test_a_lost_line_ends_the_client(start: StartClient) -> None:
    """Nothing is sent twice: what was answered is printed, and the exit code is 4."""

    def answer_once(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        if number == 1:
            server.sendto(data, sender)

    with receiving(answer_once) as port:
        client = start("echo", "--udp", "--timeout", 0.4, "127.0.0.1", port)
        ended = client.ended(b"one\ntwo\nthree\n")
    assert ended.output == b"one\n"
    assert complaint(ended, ClientExit.TIMED_OUT).endswith("1 of 2 datagrams got no answer)")


# --- hostile answers ------------------------------------------------------------------


def test_a_server_of_another_protocol_is_recognised(start: StartClient) -> None:
    """A time of five bytes, a quotation without an end, a discard server that talks, a
    tcpmux without a reply: one sentence, exit code 9, and nothing without a bound.
    """

    def talk(text: bytes) -> Callable[[socket.socket], None]:
        def send(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        return send

    for service, words, text, sentence in (
        ("time", (), b"12345", "not a time server after T s (it sent 5 bytes in place of 4)"),
        ("qotd", (), b"x" * 5_000_000, "not a qotd server after T s (it sent more than 65536"),
        ("discard", (), b"x", "not a discard server after T s (it sent 1 bytes for 4)"),
        ("tcpmux", ("--name", "x"), b"+" * 2000, "not a tcpmux server after T s (its reply has"),
        ("tcpmux", ("--name", "x"), b"hello\r\n", "not a tcpmux server after T s (its reply has"),
    ):
        with streaming(talk(text)) as port:
            ended = start(service, "127.0.0.1", port, *words).ended(b"one\n")
        assert sentence in drop_time(complaint(ended, ClientExit.ANOTHER_PROTOCOL))
        assert len(ended.output) <= 65_536
    with streaming(talk(b"-no \x1b[2J" + b"y" * 900 + b"\r\n")) as port:
        ended = start("tcpmux", "127.0.0.1", port, "--name", "x").ended()
    assert r"service refused after T s (no \x1b[2Jyyy" in drop_time(
        complaint(ended, ClientExit.REFUSED)
    )
    assert len(ended.errors) < 300


@pytest.mark.parametrize(
    ("service", "answer", "sentence"),
    [
        ("time", b"", "not a time server after T s (it sent 0 bytes in place of 4)"),
        ("time", b"12345", "not a time server after T s (it sent 5 bytes in place of 4)"),
        ("daytime", b"", "not a daytime server after T s (its answer is empty)"),
    ],
)
def test_a_datagram_that_is_no_answer_is_refused(
    start: StartClient, service: str, answer: bytes, sentence: str
) -> None:
    """A datagram of the wrong size is an answer of another protocol: exit code 9."""

    def send(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        server.sendto(answer, sender)

    with receiving(send) as port:
        ended = start(service, "--udp", "127.0.0.1", port).ended()
    assert sentence in drop_time(complaint(ended, ClientExit.ANOTHER_PROTOCOL))


def test_a_time_that_is_cut_is_closed_early(start: StartClient) -> None:
    """A server that closes after three bytes exits the client with 7."""
    with streaming(lambda connection: connection.sendall(b"123")) as port:
        ended = start("time", "127.0.0.1", port).ended()
    assert complaint(ended, ClientExit.CLOSED_EARLY).endswith("(3 of 4 bytes came)")


@pytest.mark.parametrize(
    ("answers", "exit_code", "cause"),
    [
        (lambda data: data[:10], ClientExit.CLOSED_EARLY, "server terminated prematurely"),
        (lambda data: b"x" * len(data), ClientExit.ANOTHER_PROTOCOL, "not an echo server"),
        (lambda _: b"Sun Nov 29\r\n", ClientExit.ANOTHER_PROTOCOL, "not an echo server"),
    ],
)
def test_a_stream_that_breaks_ends_the_measurement_after_its_summary(
    start: StartClient, answers: Callable[[bytes], bytes], exit_code: ClientExit, cause: str
) -> None:
    """One answer came, then the server failed: the summary stands there, and the exit
    code is that of the failure.
    """

    def answer_once(connection: socket.socket) -> None:
        connection.sendall(connection.recv(56, socket.MSG_WAITALL))
        connection.sendall(answers(connection.recv(56, socket.MSG_WAITALL)))

    with streaming(answer_once) as port:
        ended = start("echo", "127.0.0.1", port, "--interval", 0.05, "--json").ended()
    assert cause in complaint(ended, exit_code)
    result = json.loads(ended.output)
    assert (result["received"], result["sent"] >= 2) == (1, True)
    assert isinstance(result["retransmits"], int)


def test_a_bulk_that_breaks_is_closed_early(start: StartClient) -> None:
    """A server that returns less than it got exits the client with 7."""

    def swallow_all(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass

    with streaming(swallow_all) as port:
        ended = start("echo", "127.0.0.1", port, "--bulk", 0.1).ended()
    assert re.search(
        r"\((\d+) of \1 bytes are missing\)$", complaint(ended, ClientExit.CLOSED_EARLY)
    )


@pytest.mark.parametrize("words", [("--bulk", 0.01, "--size", 16), ()])
def test_a_server_that_talks_on_after_the_end_is_no_echo_server(
    start: StartClient, words: tuple[Any, ...]
) -> None:
    """A client that has sent everything does not read for ever: more bytes than it sent
    end it.
    """

    def talk_on(connection: socket.socket) -> None:
        with suppress(OSError):
            while connection.recv(1 << 16):
                pass
            while True:
                connection.sendall(b"x" * 1024)

    with streaming(talk_on) as port:
        ended = start("echo", "127.0.0.1", port, "--timeout", 5, *words).ended()
    assert "not an echo server" in complaint(ended, ClientExit.ANOTHER_PROTOCOL)


@pytest.mark.slow
def test_a_bulk_to_a_server_that_reads_nothing_times_out(start: StartClient) -> None:
    """The timeout counts while the client sends, too: it does not wait for the end of
    the transfer's time.
    """
    with listening_only() as port:
        ended = start("echo", "127.0.0.1", port, "--bulk", 600, "--timeout", 1).ended()
    assert re.fullmatch(
        rf"echo at 127.0.0.1 port {port}: timed out after T s \((\d+) of \1 bytes are missing\)",
        drop_time(complaint(ended, ClientExit.TIMED_OUT)),
    )


class WatchedProbe(StreamProbe):
    """A probe that notices a client which asks it over and over."""

    def __init__(self, sock: socket.socket, coder: Coder) -> None:
        super().__init__(sock, coder)
        self.looks = 0
        self.spinning = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether bytes wait to be sent. Each turn of the measurement asks."""
        self.looks += 1
        if self.looks > 500:
            self.spinning.set()
        return super().busy


def test_a_measurement_rests_while_the_last_request_waits() -> None:
    """One answer came, then the server stops reading in the middle of the last request.
    The client waits in the kernel, without a turn, until the server reads on; only then
    does the wait for the last answer begin.
    """
    size = 1 << 20  # more than the buffers of a UNIX socket hold
    near, far = socket.socketpair()
    plan = Plan(size=size, interval_ns=1_000_000, count=2, timeout_ns=None, as_json=True)
    near.setblocking(False)
    probe = WatchedProbe(near, Coder(bytes(8), size))
    with (
        ThreadPoolExecutor(1) as pool,
        Interrupts() as interrupts,
        open(os.devnull, "wb") as sink,
        near,
        far,
    ):
        measurement = Measurement(probe, plan, Output(sink.fileno()), interrupts)
        ran = pool.submit(measurement.run)
        far.sendall(clients.read_exactly(far, size))
        assert not probe.spinning.wait(0.5), probe.looks
        far.sendall(clients.read_exactly(far, size))
        ran.result(PATIENCE_S)
    assert measurement.tally.counts.received == 2


# --- Ctrl-C ---------------------------------------------------------------------------


def test_an_interrupt_prints_the_summary(start: StartClient) -> None:
    """Live lines come as the answers do. Ctrl-C ends with the summary and with 0, if an
    answer came.
    """
    with receiving(echo) as port:
        client = start("echo", "--udp", "127.0.0.1", port, "--interval", 0.05)
        assert (
            read_line(client) == f"echo at 127.0.0.1 port {port} over UDP: 56 bytes, every 0.05 s"
        )
        for number in (1, 2, 3):
            assert read_line(client).startswith(f"56 bytes: seq={number} time=")
        client.process.send_signal(signal.SIGINT)
        ended = client.ended_by_itself()
    assert (ended.exit_code, ended.errors) == (0, "")
    assert re.search(rb"^\d+ sent, \d+ received, \d+ lost", ended.output, re.MULTILINE)


def test_an_interrupt_before_any_answer_ends_with_130(start: StartClient) -> None:
    """The summary is printed, and nothing on standard error."""
    with receiving(swallow) as port:
        client = start("echo", "--udp", "127.0.0.1", port, "--interval", 600)
        read_line(client)
        client.process.send_signal(signal.SIGINT)
        ended = client.ended_by_itself()
    assert (ended.exit_code, ended.errors) == (ClientExit.INTERRUPTED, "")
    assert b" 0 received, " in ended.output


def test_an_interrupt_ends_a_bulk_with_its_figures(start: StartClient) -> None:
    """Ctrl-C is the end of the time."""
    got: list[bytes] = []

    def keep(server: socket.socket, data: bytes, sender: Any, number: int) -> None:
        got.append(data)
        server.sendto(data, sender)

    with receiving(keep) as port:
        client = start("echo", "--udp", "127.0.0.1", port, "--bulk", 600)
        until(lambda: len(got) > 1000, PATIENCE_S, "the client to send")
        client.process.send_signal(signal.SIGINT)
        ended = client.ended_by_itself()
    assert (ended.exit_code, ended.errors) == (0, "")
    assert b": throughput ---\nsent " in ended.output


def test_a_second_interrupt_ends_a_client_whose_reader_does_not_read(start: StartClient) -> None:
    """The client hangs in a write to a full pipe, where one Ctrl-C cannot end it."""
    reading_end, writing_end = os.pipe()
    fcntl.fcntl(writing_end, F_SETPIPE_SZ, 4096)

    def filled() -> bool:
        waiting = bytearray(4)
        fcntl.ioctl(reading_end, termios.FIONREAD, waiting)
        return int(struct.unpack("i", waiting)[0]) > 4000

    with receiving(echo) as port:
        words = ("--udp", "127.0.0.1", port, "--interval", 0.001)
        client = start("echo", *words, stdout=writing_end)
        os.close(writing_end)
        until(filled, PATIENCE_S, "the pipe to fill")

        def interrupted() -> bool:
            client.process.send_signal(signal.SIGINT)
            return client.process.poll() is not None

        until(interrupted, PATIENCE_S, "the client to end")
    # A third one may end the interpreter while it ends.
    assert client.process.returncode in (ClientExit.INTERRUPTED, -signal.SIGINT)
    os.close(reading_end)


def test_a_reader_that_closes_ends_a_measurement_quietly(start: StartClient) -> None:
    """As a filter on SIGPIPE: exit code 1, and no words."""
    with receiving(echo) as port:
        client = start("echo", "--udp", "127.0.0.1", port, "--interval", 600)
        read_line(client)
        assert client.process.stdout is not None
        client.process.stdout.close()
        client.process.wait(PATIENCE_S)
        assert client.process.stderr is not None
        assert (client.process.returncode, client.process.stderr.read()) == (1, b"")
