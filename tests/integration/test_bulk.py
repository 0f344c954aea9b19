"""Echo in bulk, which a worker relays within the kernel: the same bytes, the same counts, the same ends as when it copies them."""

import random
import socket
import threading
from pathlib import Path

import pytest

from tests.support import clients, faults
from tests.support.books import settled
from tests.support.launch import Launch

MIB = 1 << 20
ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


@faults.requires_strace()
def test_a_stream_is_relayed(launch: Launch, rng: random.Random, tmp_path: Path) -> None:
    """Most of a stream never comes into the worker, as strace shows, and is counted none the less; a few words are read and written."""
    unpd = launch(ECHO, prefix=faults.strace_prefix(tmp_path / "trace", "splice,readv"))
    trace = faults.Trace(tmp_path / "trace")
    assert clients.converse(unpd.address("echo"), b"a few words") == b"a few words"
    assert trace.count("splice") == 0
    data = rng.randbytes(16 * MIB)
    assert clients.converse(unpd.address("echo"), data) == data
    books = settled(unpd, {"client_fin": 2})
    assert books.received == books.sent == len(data) + len("a few words")
    assert trace.count("splice") > trace.count("readv"), "more was copied than relayed"


@faults.requires_strace()
@pytest.mark.parametrize("error", ["EPERM", "EINVAL", "ENOSYS"])
def test_where_splice_is_forbidden_the_bytes_are_copied(launch: Launch, rng: random.Random, tmp_path: Path, error: str) -> None:
    """A filter of system calls that knows no splice(2): a stream comes back whole, and the worker asks once."""
    unpd = launch(ECHO, prefix=faults.strace_prefix(tmp_path / "trace", "splice", f"splice:error={error}"))
    data = rng.randbytes(16 * MIB)
    assert clients.converse(unpd.address("echo"), data) == data
    settled(unpd, {"client_fin": 1})
    assert faults.Trace(tmp_path / "trace").count("splice") == 1


def test_urgent_bytes_in_a_stream_come_back_at_their_place(launch: Launch, rng: random.Random) -> None:
    """Splice stops before an urgent byte and says that there is nothing, or at the peer's FIN that all is over: neither holds up what follows, nor loses it."""
    unpd = launch(ECHO)
    for rest in (b"", rng.randbytes(MIB)):
        pieces = [rng.randbytes(4 * MIB), rng.randbytes(2 * MIB), rest]
        with clients.connect(unpd.address("echo")) as sock:

            def send(sock: socket.socket = sock, pieces: list[bytes] = pieces) -> None:
                for piece in pieces[:-1]:
                    sock.sendall(piece)
                    clients.urgent(sock, b"!")
                sock.sendall(pieces[-1])
                sock.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            got = clients.read_all(sock)
            sender.join()
        assert got == b"!".join(pieces)
    settled(unpd, {"client_fin": 2})


def test_a_reset_in_mid_stream_is_counted_as_one(launch: Launch) -> None:
    """A client that resets while much is on its way both ways ended by client_rst, and what was meant for it comes to no other."""
    unpd = launch(ECHO)
    for _ in range(20):
        with clients.connect(unpd.address("echo")) as sock:
            sock.sendall(bytes(MIB // 2))
            clients.read_exactly(sock, MIB // 8)
            clients.reset(sock)
        assert clients.converse(unpd.address("echo"), b"x" * 1000) == b"x" * 1000
    settled(unpd, {"client_rst": 20, "client_fin": 20})


def test_streams_side_by_side_keep_their_bytes_apart(launch: Launch, rng: random.Random) -> None:
    """Four streams through one worker's relay, two of which are read slowly, so that it is given back what sockets do not take."""
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)
    data = [rng.randbytes(8 * MIB) for _ in range(4)]
    got: dict[int, bytes] = {}

    def talk(index: int) -> None:
        got[index] = clients.converse(unpd.address("echo"), data[index], receive_buffer=32768 if index % 2 else 0)

    talkers = [threading.Thread(target=talk, args=(index,)) for index in range(4)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    assert [got.get(index) == data[index] for index in range(4)] == [True] * 4
    books = settled(unpd, {"client_fin": 4})
    assert books.received == books.sent == 32 * MIB
