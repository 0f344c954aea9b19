"""The two clients as real processes, against servers that do one thing each."""

import errno
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from io import RawIOBase
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.client_process import (
    CLIENT,
    PATIENCE_S,
    Ended,
    StartClient,
    closed_port,
    complaint,
    drop_time,
    time_of,
)
from tests.support.waiting import holds, until
from unpd.cli.client import connect
from unpd.cli.client.failures import ClientFailure
from unpd.cli.client.targets import Target
from unpd.names import ClientExit

Behaviour = Callable[[socket.socket], None]


@contextmanager
def listening(
    address: tuple[str, int] | str = ("127.0.0.1", 0), *, backlog: int = 16, receive_buffer: int = 0
) -> Iterator[socket.socket]:
    """Provide a listener. Its accept and its connections time out after PATIENCE_S."""
    family = (
        socket.AF_UNIX
        if isinstance(address, str)
        else socket.AF_INET6
        if ":" in address[0]
        else socket.AF_INET
    )
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.settimeout(PATIENCE_S)
        if receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind(address)
        listener.listen(backlog)
        yield listener


@contextmanager
def serving(
    behaviour: Behaviour,
    address: tuple[str, int] | str = ("127.0.0.1", 0),
    *,
    receive_buffer: int = 0,
) -> Iterator[int]:
    """Serve one connection with ``behaviour``, then close it. Yields the port (0 for a
    UNIX socket). A failure of the server fails the test.
    """

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.settimeout(PATIENCE_S)
            behaviour(connection)

    with (
        listening(address, receive_buffer=receive_buffer) as listener,
        ThreadPoolExecutor(1) as threads,
    ):
        served = threads.submit(serve, listener)
        yield 0 if isinstance(address, str) else listener.getsockname()[1]
        served.result(PATIENCE_S)


def echo(connection: socket.socket) -> None:
    """Echo, as a correct server does."""
    while chunk := connection.recv(65536):
        connection.sendall(chunk)


def say_the_time(connection: socket.socket) -> None:
    """Answer daytime, as a correct server does."""
    connection.sendall(b"Sun Nov 22 12:24:00 2026\r\n")


def close_at_once(connection: socket.socket) -> None:
    """Close without sending."""
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Close with an RST instead of a FIN (SO_LINGER 0, socket(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def silent(*, receive_buffer: int = 0) -> Iterator[int]:
    """Provide a server that never answers and reads nothing: the kernel completes the
    connections, and nothing accepts them. Yields the port.
    """
    with listening(receive_buffer=receive_buffer) as listener:
        yield listener.getsockname()[1]


# --- it works -------------------------------------------------------------------------


def test_daytime_prints_what_the_server_says(start: StartClient) -> None:
    """The daytime client prints the answer byte for byte and exits with 0."""
    with serving(say_the_time) as port:
        assert start("daytime", "127.0.0.1", port).ended() == Ended(
            0, b"Sun Nov 22 12:24:00 2026\r\n", ""
        )


def test_daytime_does_not_wait_for_standard_input(start: StartClient) -> None:
    """The daytime client ends when the server closes, whatever its standard input
    does.
    """
    with serving(say_the_time) as port:
        assert start("daytime", "127.0.0.1", port).ended_by_itself().exit_code == 0


@pytest.mark.parametrize("mode", [(), ("--raw",)])
@pytest.mark.parametrize(
    "text", [b"", b"one\ntwo\n", b"no newline", b"\n\n", b"long" * 500_000, b"\0\r\n\xff"]
)
def test_echo_prints_what_comes_back(
    start: StartClient, mode: tuple[str, ...], text: bytes
) -> None:
    """The echo client prints every input unchanged and exits with 0: no line, a last
    line without newline, a line of two million bytes.
    """
    with serving(echo) as port:
        assert start("echo", *mode, "127.0.0.1", port).ended(text) == Ended(0, text, "")


@pytest.mark.parametrize(("mode", "text"), [((), b"a line\n"), (("--raw",), b"no line")])
def test_an_answer_is_printed_while_standard_input_is_open(
    start: StartClient, mode: tuple[str, ...], text: bytes
) -> None:
    """A line goes out and comes back at once. With --raw so does a piece without a
    newline.
    """
    with serving(echo) as port:
        client = start("echo", *mode, "127.0.0.1", port)
        for _ in range(3):
            client.type(text)
            assert client.read(len(text)) == text
        assert client.ended().exit_code == 0


def test_echo_half_closes_at_the_end_of_its_input(start: StartClient) -> None:
    """The client half-closes at the end of its input. It reads the answer of a server
    that answers only after the FIN.
    """

    def answer_at_the_end(connection: socket.socket) -> None:
        pieces = []
        while chunk := connection.recv(65536):
            pieces.append(chunk)
        connection.sendall(b"".join(pieces))

    with serving(answer_at_the_end) as port:
        assert start("echo", "127.0.0.1", port).ended(b"late answer\n") == Ended(
            0, b"late answer\n", ""
        )


def test_ten_megabytes_come_back_exactly_from_a_slow_server(start: StartClient) -> None:
    """A server with small buffers that reads in odd small pieces returns ten random
    megabytes byte for byte.
    """
    text = random.Random(7).randbytes(10_000_000)

    def echo_slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while chunk := connection.recv(3989):
            connection.sendall(chunk)

    with serving(echo_slowly, receive_buffer=4096) as port:
        ended = start("echo", "--raw", "127.0.0.1", port).ended(text)
    assert (ended.exit_code, len(ended.output), ended.output == text, ended.errors) == (
        0,
        len(text),
        True,
        "",
    )


@pytest.mark.parametrize("kind", ["regular file", "/dev/null"])
def test_standard_input_may_be_a_file(start: StartClient, tmp_path: Path, kind: str) -> None:
    """A regular file and /dev/null work as standard input."""
    text = b"from a file\n" * 100_000 if kind == "regular file" else b""
    path = tmp_path / "input"
    path.write_bytes(text)
    with serving(echo) as port, (path if text else Path(os.devnull)).open("rb") as source:
        assert start("echo", "127.0.0.1", port, stdin=source.fileno()).ended() == Ended(0, text, "")


def test_a_unix_socket_is_named_by_its_path(start: StartClient, tmp_path: Path) -> None:
    """A HOST with a slash is a UNIX socket, for either client."""
    with serving(echo, str(tmp_path / "echo.sock")):
        assert start("echo", tmp_path / "echo.sock").ended(b"local\n") == Ended(0, b"local\n", "")
    with serving(say_the_time, str(tmp_path / "daytime.sock")):
        assert start("daytime", tmp_path / "daytime.sock").ended().exit_code == 0


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_is_taken_with_and_without_brackets(start: StartClient, host: str) -> None:
    """An IPv6 address works with and without the brackets of a listen address."""
    with serving(echo, ("::1", 0)) as port:
        assert start("echo", host, port).ended(b"six\n").output == b"six\n"


def test_a_name_is_looked_up_and_its_addresses_tried(start: StartClient) -> None:
    """A server on 127.0.0.1 alone is found under the name localhost, whichever address
    comes first.
    """
    with serving(echo) as port:
        assert start("echo", "localhost", port).ended(b"by name\n") == Ended(0, b"by name\n", "")


def test_the_next_address_is_tried_after_a_failure() -> None:
    """The client tries the next address after one that refuses."""
    with listening() as listener, closed_port() as port:
        refusing = connect.Candidate(socket.AF_INET, ("127.0.0.1", port))
        answering = connect.Candidate(socket.AF_INET, listener.getsockname())
        with connect.connect_any(Target("name", 7), (refusing, answering), PATIENCE_S) as sock:
            assert sock.getpeername() == listener.getsockname()


def test_the_last_address_decides_and_all_are_named() -> None:
    """When every address fails, the exit code is that of the last one, and the message
    names each with its reason.
    """
    unreachable = connect.Candidate(socket.AF_INET, ("127.255.255.255", 7))
    with closed_port() as port:
        candidates = (connect.Candidate(socket.AF_INET, ("127.0.0.1", port)), unreachable)
        with pytest.raises(ClientFailure) as failed:
            connect.connect_any(Target("name", 7), candidates, PATIENCE_S)
    assert failed.value.exit_code is ClientExit.UNREACHABLE
    assert (
        failed.value.detail
        == "tried 127.0.0.1: Connection refused, then 127.255.255.255: Network is unreachable"
    )


# --- how it fails ---------------------------------------------------------------------


@pytest.mark.parametrize("service", ["daytime", "echo"])
def test_a_closed_port_is_refused(start: StartClient, service: str) -> None:
    """A closed port exits with 3, and the message names the address."""
    with closed_port() as port:
        sentence = complaint(start(service, "127.0.0.1", port).ended(), ClientExit.REFUSED)
    assert (
        drop_time(sentence)
        == f"{service} at 127.0.0.1 port {port}: connection refused after T s (Connection refused)"
    )


def test_a_socket_connected_to_itself_is_refused() -> None:
    """A TCP socket connected to its own port (possible on loopback without a listener)
    is distinguished from one that found a server.
    """
    with (
        socket.socket() as own,
        listening() as listener,
        socket.create_connection(listener.getsockname()) as proper,
    ):
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        assert connect.is_connected_to_itself(own)
        assert not connect.is_connected_to_itself(proper)


@pytest.mark.parametrize("service", ["daytime", "echo"])
def test_a_server_that_never_answers_times_out(start: StartClient, service: str) -> None:
    """A server that accepts and sends nothing exits the client with 4 after the
    timeout.
    """
    with silent() as port:
        ended = start(service, "--timeout", "0.3", "127.0.0.1", port).ended(
            b"anybody?\n" if service == "echo" else None
        )
    sentence = complaint(ended, ClientExit.TIMED_OUT)
    detail = (
        "nothing came for 0.3 s"
        if service == "daytime"
        else "no progress for 0.3 s; 9 of 9 bytes are missing"
    )
    assert (
        drop_time(sentence) == f"{service} at 127.0.0.1 port {port}: timed out after T s ({detail})"
    )
    assert time_of(sentence) >= 0.3


def test_a_host_that_does_not_answer_the_connection_times_out(start: StartClient) -> None:
    """A connection request without an answer exits with 4, as the kernel's own
    ETIMEDOUT does.
    """
    with listening(backlog=0) as listener, ExitStack() as stack:
        host, port = listener.getsockname()
        until(
            lambda: not is_answered(stack, listener),
            PATIENCE_S,
            "the listener to stop answering",
        )
        sentence = complaint(
            start("echo", "--timeout", "0.3", host, port).ended(), ClientExit.TIMED_OUT
        )
    assert (
        drop_time(sentence)
        == f"echo at 127.0.0.1 port {port}: timed out after T s (no answer within 0.3 s)"
    )
    assert time_of(sentence) >= 0.3


def is_answered(stack: ExitStack, listener: socket.socket) -> bool:
    """Put one more connection into the queue of ``listener``. False if it is full:
    Linux then drops a TCP request and answers a UNIX one with EAGAIN.
    """
    probe = stack.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
    probe.setblocking(False)
    error = probe.connect_ex(listener.getsockname())
    return error == 0 or (
        error == errno.EINPROGRESS and bool(select.select((), (probe,), (), 0.2)[1])
    )


def test_a_unix_listener_with_a_full_queue_times_out(start: StartClient, tmp_path: Path) -> None:
    """A UNIX server that has stopped accepting exits the client with 4 after the
    timeout. The client neither fails at once nor hangs.
    """
    path = tmp_path / "full.sock"
    with listening(str(path), backlog=0) as listener, ExitStack() as stack:
        until(lambda: not is_answered(stack, listener), PATIENCE_S, "the queue to fill")
        sentence = complaint(
            start("daytime", "--timeout", "0.3", path).ended(), ClientExit.TIMED_OUT
        )
    assert drop_time(sentence) == f"daytime at {path}: timed out after T s (no answer within 0.3 s)"
    assert time_of(sentence) >= 0.3


def test_a_server_that_stops_reading_times_out_and_bounds_the_input(
    start: StartClient,
) -> None:
    """When the server never reads, the client stops reading its input, so its memory is
    bounded, and exits with 4.
    """
    taken: list[int] = []

    def type_for_ever() -> None:
        while True:
            client.type(bytes(65536))
            taken.append(65536)

    with silent(receive_buffer=4096) as port:
        client = start("echo", "--raw", "--timeout", "0.5", "127.0.0.1", port)
        with pytest.raises(BrokenPipeError):
            type_for_ever()
        assert "no progress for 0.5 s" in complaint(client.ended(), ClientExit.TIMED_OUT)
    assert sum(taken) < 16 << 20, (
        "the client read more than the kernel's buffers and its own limit hold"
    )


@pytest.mark.parametrize("host", ["127.255.255.255", "ff02::1"])
def test_an_address_without_a_route_is_unreachable(start: StartClient, host: str) -> None:
    """An address that TCP cannot reach (broadcast or multicast, where no packet leaves)
    exits with 5.
    """
    sentence = complaint(start("echo", host, 7).ended(), ClientExit.UNREACHABLE)
    assert (
        drop_time(sentence)
        == f"echo at {host} port 7: unreachable after T s (Network is unreachable)"
    )


def test_a_path_without_a_socket_is_unreachable(start: StartClient, tmp_path: Path) -> None:
    """A UNIX path without a socket exits with 5 and names the path."""
    sentence = complaint(start("daytime", tmp_path / "none").ended(), ClientExit.UNREACHABLE)
    assert (
        drop_time(sentence)
        == f"daytime at {tmp_path / 'none'}: unreachable after T s (No such file or directory)"
    )


def test_a_reset_is_distinguished_from_a_close(start: StartClient) -> None:
    """An RST in the middle exits with 6 and reports how many bytes are missing."""

    def reset_after_a_line(connection: socket.socket) -> None:
        assert connection.recv(100) == b"hello\n"
        connection.sendall(b"he")
        assert connection.recv(100) == b"more\n"
        reset(connection)

    with serving(reset_after_a_line) as port:
        client = start("echo", "127.0.0.1", port)
        client.type(b"hello\n")
        assert client.read(2) == b"he"
        client.type(b"more\n")
        sentence = complaint(client.ended_by_itself(), ClientExit.RESET)
    assert (
        drop_time(sentence)
        == f"echo at 127.0.0.1 port {port}: connection reset by the server after T s (9 of 11 bytes"
        " are missing)"
    )


def test_daytime_reports_a_reset(start: StartClient) -> None:
    """A daytime server that resets after a part of the answer exits the client
    with 6.
    """

    def reset_halfway(connection: socket.socket) -> None:
        connection.sendall(b"Sun")
        assert client.read(3) == b"Sun"
        reset(connection)

    with listening() as listener:
        client = start("daytime", "127.0.0.1", listener.getsockname()[1])
        with listener.accept()[0] as connection:
            reset_halfway(connection)
        assert "connection reset by the server" in complaint(client.ended(), ClientExit.RESET)


def test_the_servers_end_is_seen_while_standard_input_is_idle(start: StartClient) -> None:
    """A server that closes while the client waits for input exits the client at once
    with 7 (UNP 6.4), without any timeout.
    """

    def answer_one_line(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))

    with serving(answer_one_line) as port:
        client = start("echo", "--timeout", "0", "127.0.0.1", port)
        client.type(b"line\n")
        ended = client.ended_by_itself()
    assert ended.output == b"line\n"
    assert (
        drop_time(complaint(ended, ClientExit.CLOSED_EARLY))
        == f"echo at 127.0.0.1 port {port}: server terminated prematurely after T s (0 of 5 bytes"
        " are missing)"
    )


def test_the_servers_end_is_seen_while_waiting_on_a_terminal(start: StartClient) -> None:
    """A server that closes while the client waits on a terminal exits the client with
    7.
    """
    with serving(close_at_once) as port:
        terminal, own_side = os.openpty()
        try:
            ended = start("echo", "--timeout", "0", "127.0.0.1", port, stdin=own_side).ended()
        finally:
            os.close(terminal)
            os.close(own_side)
    assert "server terminated prematurely" in complaint(ended, ClientExit.CLOSED_EARLY)


def test_an_echo_that_closes_with_bytes_missing_is_closed_early(start: StartClient) -> None:
    """A server that closes after the client's FIN with fewer bytes than were sent exits
    the client with 7. The message counts the missing bytes.
    """

    def swallow_some(connection: socket.socket) -> None:
        while chunk := connection.recv(65536):
            connection.sendall(chunk[:4])

    with serving(swallow_some) as port:
        ended = start("echo", "127.0.0.1", port).ended(b"hello world\n")
    assert ended.output == b"hell"
    assert "server terminated prematurely" in complaint(ended, ClientExit.CLOSED_EARLY)
    assert ended.errors.endswith("(8 of 12 bytes are missing)\n")


@pytest.mark.parametrize("line", [b"hi\n", b"a line that is longer than the date and the time\n"])
def test_an_echo_client_recognises_a_daytime_server(start: StartClient, line: bytes) -> None:
    """A server that sends other bytes and closes is no echo server, however many bytes
    the client sent: exit code 9.
    """

    def tell_the_time(connection: socket.socket) -> None:
        connection.sendall(b"Sun Nov 29 14:00:00 2026\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with serving(tell_the_time) as port:
        ended = start("echo", "127.0.0.1", port).ended(line)
    assert "not an echo server" in complaint(ended, ClientExit.ANOTHER_PROTOCOL)


def test_daytime_without_a_byte_is_closed_early(start: StartClient) -> None:
    """A daytime server that closes without sending exits the client with 7."""
    with serving(close_at_once) as port:
        sentence = complaint(start("daytime", "127.0.0.1", port).ended(), ClientExit.CLOSED_EARLY)
    assert (
        drop_time(sentence)
        == f"daytime at 127.0.0.1 port {port}: server terminated prematurely after T s (no byte"
        " came)"
    )


@pytest.mark.parametrize("name", ["name.invalid", "a" * 64 + ".invalid"])
def test_an_unknown_name_is_not_found(start: StartClient, name: str) -> None:
    """A name without an address exits with 8, with or without a network: a resolver
    that does not answer has the same code.
    """
    sentence = complaint(start("echo", "--timeout", "2", name).ended(), ClientExit.NAME_NOT_FOUND)
    assert sentence.startswith(f"echo at {name} port 7: name not found after ")


def test_a_path_with_a_port_is_wrong_usage(start: StartClient) -> None:
    """A UNIX socket with a port exits with 2 before anything is tried."""
    assert (
        complaint(start("echo", "/run/x.sock", 7).ended(), ClientExit.USAGE)
        == "/run/x.sock is the path of a UNIX socket, which has no port"
    )


def test_control_characters_of_a_host_do_not_reach_the_terminal(start: StartClient) -> None:
    """Control characters in a host are printed escaped."""
    assert r"at x\x1b[1m\udcff.invalid port 7" in complaint(
        start("echo", "--timeout", "2", "x\x1b[1m\udcff.invalid").ended(), ClientExit.NAME_NOT_FOUND
    )


# --- its own user ---------------------------------------------------------------------


def test_a_pause_of_the_user_does_not_time_out(start: StartClient) -> None:
    """The timeout does not run while the server owes nothing."""
    with serving(echo) as port:
        client = start("echo", "--timeout", "0.2", "127.0.0.1", port)
        client.type(b"first\n")
        assert client.read(6) == b"first\n"
        holds(
            lambda: client.process.poll() is None,
            0.5,
            "the client gave up although the server owed nothing",
        )
        client.type(b"second\n")
        assert client.read(7) == b"second\n"
        assert client.ended().exit_code == 0


def test_typing_into_a_dead_connection_does_not_postpone_the_timeout(start: StartClient) -> None:
    """A server that owes an answer times out although the user goes on typing."""
    with silent() as port:
        client = start("echo", "--timeout", "0.4", "127.0.0.1", port)

        def type_until_it_ends() -> bool:
            with suppress(BrokenPipeError):
                client.type(b"x\n")
            return client.process.poll() is not None

        until(type_until_it_ends, PATIENCE_S, "the client to give up")
        assert "no progress for 0.4 s" in complaint(client.ended(), ClientExit.TIMED_OUT)


def test_an_interrupt_ends_with_130_and_no_trace(start: StartClient) -> None:
    """Ctrl-C ends the client with 130 and prints nothing."""
    with serving(echo) as port:
        client = start("echo", "127.0.0.1", port)
        client.type(b"there\n")
        assert client.read(6) == b"there\n"
        client.process.send_signal(signal.SIGINT)
        assert client.ended_by_itself() == Ended(ClientExit.INTERRUPTED, b"", "")


def test_a_reader_that_closes_ends_an_idle_client_quietly(start: StartClient) -> None:
    """When the reader of standard output closes, the client exits with 1 and prints
    nothing, even while it has nothing to print.
    """
    with serving(echo) as port:
        client = start("echo", "127.0.0.1", port)
        client.type(b"there\n")
        assert client.read(6) == b"there\n"
        assert client.process.stdout is not None
        client.process.stdout.close()
        client.process.wait(PATIENCE_S)
        assert client.process.stderr is not None
        assert (client.process.returncode, client.process.stderr.read()) == (1, b"")


@pytest.mark.parametrize("service", ["daytime", "echo"])
def test_a_reader_that_closed_before_ends_the_client_quietly(
    start: StartClient, service: str
) -> None:
    """With an output that was closed before the start, the client exits with 1 and
    prints nothing.
    """
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    with silent() as port:
        client = start(service, "127.0.0.1", port, stdout=writing_end)
        os.close(writing_end)
        # its output is not ours to read
        assert client.ended_by_itself() == Ended(1, None, "")  # type: ignore[arg-type]


def test_output_to_a_full_device_is_reported(start: StartClient) -> None:
    """A full disk is no closed pipe. The client reports it and exits with 1. So does
    one whose standard output the caller closed.
    """
    with serving(say_the_time) as port, Path("/dev/full").open("wb") as full:
        ended = start("daytime", "127.0.0.1", port, stdout=full.fileno()).ended()
    assert "standard output cannot be written" in complaint(ended, ClientExit.FAILED)
    assert "No space left on device" in ended.errors
    with serving(say_the_time) as port:
        closed = without(">&-", "daytime", port)
    assert "standard output cannot be written" in complaint(closed, ClientExit.FAILED)


def without(redirection: str, service: str, port: int) -> Ended:
    """Run a client to its end, without a descriptor that the shell closes."""
    command = ("sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *CLIENT)
    done = subprocess.run(
        (*command, service, "127.0.0.1", str(port)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr.decode())


def test_a_non_blocking_output_is_waited_for(start: StartClient) -> None:
    """An output that another process made non-blocking loses nothing."""
    text = random.Random(8).randbytes(1_000_000)
    reading_end, writing_end = os.pipe()
    os.set_blocking(writing_end, False)
    with (
        serving(echo) as port,
        ThreadPoolExecutor(1) as threads,
        os.fdopen(reading_end, "rb") as output,
    ):
        client = start("echo", "--raw", "127.0.0.1", port, stdout=writing_end)
        os.close(writing_end)
        printed = threads.submit(output.read)
        assert client.ended(text).exit_code == 0
        assert printed.result(PATIENCE_S) == text


EVIL = b"\x1b[2Jbell\x07 back\r\xc2\x9b31m \xe2\x80\xae \xff \tt\xc3\xbc\r\n"
ESCAPED = "\\x1b[2Jbell\\x07 back\n\\u009b31m \\u202e \\xff \ttü\n\\xe2\\x80"


def say_evil(connection: socket.socket) -> None:
    """Send what would control a terminal, in pieces, with half a character at the
    end.
    """
    with suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in EVIL + b"\xe2\x80":
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def shown_on(screen: RawIOBase) -> bytes:
    """Return what a terminal shows to its end, which is EIO (pty(7))."""
    shown = b""
    with suppress(OSError):
        while piece := screen.read(4096):
            shown += piece
    return shown


@pytest.mark.parametrize("service", ["daytime", "echo"])
def test_a_server_cannot_control_the_terminal(start: StartClient, service: str) -> None:
    """On a terminal, control characters and bytes that are no UTF-8 are escaped, and
    lines end with a newline. A pipe gets the bytes as they are.
    """
    with serving(say_evil) as port:
        terminal, own_side = os.openpty()
        attributes = termios.tcgetattr(own_side)
        attributes[1] &= ~termios.OPOST  # the terminal itself changes nothing
        termios.tcsetattr(own_side, termios.TCSANOW, attributes)
        try:
            start(service, "127.0.0.1", port, stdout=own_side).ended(b"x" * 40)
        finally:
            os.close(own_side)
        with open(terminal, "rb", buffering=0) as screen:
            assert shown_on(screen).decode() == ESCAPED
    with serving(say_evil) as port:
        ended = start(service, "127.0.0.1", port).ended(b"x" * 40)
    assert ended.output == EVIL + b"\xe2\x80"


def test_a_closed_standard_input_is_not_mistaken_for_the_server(start: StartClient) -> None:
    """With standard input closed by the caller, the echo client reports it and exits
    with 1. It does not read the server's socket as input.
    """
    with silent() as port:
        ended = without("<&-", "echo", port)
    assert "standard input cannot be read" in complaint(ended, ClientExit.FAILED)


def test_the_arguments_alone_import_nothing_heavy() -> None:
    """Adding the client's arguments to a command line imports neither sockets nor any
    dependency.
    """
    program = (
        "import sys; from unpd.cli import client; print(sorted({'typing', 'socket', 'select',"
        " 'threading', 'pydantic', 'unpd.names'} & set(sys.modules)))"
    )
    done = subprocess.run(
        (sys.executable, "-S", "-c", program),
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == b"[]\n"


def test_a_run_imports_no_dependency() -> None:
    """A whole run of a client uses the standard library only."""
    program = (
        "import sys; from unpd.cli.main import main; print(main(), sorted({'pydantic',"
        " 'prometheus_client', 'asyncio', 'logging'} & set(sys.modules)))"
    )
    with closed_port() as port:
        command = (sys.executable, "-c", program, "client", "daytime", "127.0.0.1", str(port))
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=True
        )
    assert done.stdout == b"3 []\n"
