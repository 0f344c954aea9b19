"""Bulk echo, which a worker relays within the kernel. Bytes, counts and causes are the
same as when the worker copies.
"""

import random
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.counts import wait_ended
from tests.support.launch import Launch
from tests.support.threads import beside
from tests.support.waiting import until

MIB = 1 << 20
ECHO = """
[log]
level = "info" # as in most installations
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
ONE_WORKER = "[pools.default]\nworkers = 1\n" + ECHO


@pytest.mark.slow
@faults.requires_strace()
def test_a_stream_is_relayed(launch: Launch, rng: random.Random, tmp_path: Path) -> None:
    """Most of a long stream never enters the worker, as strace shows, and is counted
    all the same. A few words are read and written. The worker closes the relay's pipe
    afterwards.
    """
    unpd = launch(ONE_WORKER, prefix=faults.strace_prefix(tmp_path / "trace", "splice,readv"))
    trace = faults.Trace(tmp_path / "trace")
    before = procs.fds(unpd.workers()[0])
    assert clients.converse(unpd.address("echo"), b"a few words") == b"a few words"
    assert trace.count("splice") == 0
    data = rng.randbytes(16 * MIB)
    assert clients.converse(unpd.address("echo"), data) == data
    counts = wait_ended(unpd, {"client_fin": 2})
    assert counts.received == counts.sent == len(data) + len("a few words")
    assert trace.returned("readv") < len(data) // 2  # the rest was relayed
    until(lambda: procs.fds(unpd.workers()[0]) == before, 10.0, "the pipe to be closed")


@faults.requires_strace()
def test_over_a_unix_socket_nothing_is_relayed(
    launch: Launch, rng: random.Random, tmp_path: Path
) -> None:
    """On a UNIX socket a stream is copied, because on older kernels a peer could block
    the worker in a splice. This holds beside TCP listeners of the same service too, and
    the counts are shared.
    """
    config = f"""
[pools.default]
workers = 1
[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{tmp_path}/echo.sock"]
"""
    unpd = launch(config, prefix=faults.strace_prefix(tmp_path / "trace", "splice,readv"))
    data = rng.randbytes(4 * MIB)
    assert clients.converse(str(tmp_path / "echo.sock"), data) == data
    assert clients.converse(unpd.address("echo"), b"a few words") == b"a few words"
    counts = wait_ended(unpd, {"client_fin": 2})
    assert counts.received == counts.sent == len(data) + len("a few words")
    assert faults.Trace(tmp_path / "trace").count("splice") == 0


@faults.requires_strace()
@pytest.mark.parametrize("error", ["EPERM", "EACCES", "EINVAL", "ENOSYS", "ENOMEM"])
def test_where_splice_is_refused_the_bytes_are_copied(
    launch: Launch, rng: random.Random, tmp_path: Path, error: str
) -> None:
    """Where splice is refused (by a system call filter, a security module or the
    kernel), a stream comes back whole, and the worker tries splice again once a second.
    """
    unpd = launch(
        ONE_WORKER,
        prefix=faults.strace_prefix(tmp_path / "trace", "splice", f"splice:error={error}"),
    )
    data = rng.randbytes(16 * MIB)
    began = time.monotonic()
    assert clients.converse(unpd.address("echo"), data) == data
    wait_ended(unpd, {"client_fin": 1})
    assert 1 <= faults.Trace(tmp_path / "trace").count("splice") <= 2 + time.monotonic() - began


@faults.requires_strace()
def test_what_splice_does_not_push_is_written(
    launch: Launch, rng: random.Random, tmp_path: Path
) -> None:
    """Every second splice of a worker is from the pipe into the socket. If those fail,
    no pulled byte is lost.
    """
    unpd = launch(
        ONE_WORKER,
        prefix=faults.strace_prefix(tmp_path / "trace", "splice", "splice:error=ENOMEM:when=2+2"),
    )
    data = rng.randbytes(16 * MIB)
    assert clients.converse(unpd.address("echo"), data) == data
    counts = wait_ended(unpd, {"client_fin": 1})
    assert counts.received == counts.sent == len(data)
    assert faults.Trace(tmp_path / "trace").count("splice") >= 2


@faults.requires_strace()
def test_where_the_pipe_cannot_be_enlarged_the_bytes_are_copied(
    launch: Launch, rng: random.Random, tmp_path: Path
) -> None:
    """Beyond a user's share of pipe pages (pipe-user-pages-soft) the pipe would be
    small. The worker closes it at once and copies.
    """
    unpd = launch(ONE_WORKER)
    (worker,) = unpd.workers()
    before = procs.fds(worker)
    data = rng.randbytes(16 * MIB)
    with faults.straced(worker, tmp_path / "trace", "fcntl,splice", "fcntl:error=EPERM") as trace:
        assert clients.converse(unpd.address("echo"), data) == data
        assert trace.count("fcntl") >= 1
        assert trace.count("splice") == 0
        assert procs.fds(worker) == before


def test_urgent_bytes_in_a_stream_come_back_in_place(launch: Launch, rng: random.Random) -> None:
    """Splice stops before an urgent byte and reports no data, or, after the peer's FIN,
    the end. What follows the urgent byte is neither delayed nor lost.
    """
    unpd = launch(ECHO)
    for rest in (b"", rng.randbytes(MIB)):
        pieces = [rng.randbytes(4 * MIB), rng.randbytes(2 * MIB), rest]
        with clients.connect(unpd.address("echo")) as sock:

            def send(sock: socket.socket = sock, pieces: list[bytes] = pieces) -> None:
                for piece in pieces[:-1]:
                    sock.sendall(piece)
                    clients.send_urgent(sock, b"!")
                sock.sendall(pieces[-1])
                sock.shutdown(socket.SHUT_WR)

            with beside(send):
                got = clients.read_all(sock)
        assert got == b"!".join(pieces)
    wait_ended(unpd, {"client_fin": 2})


def test_bytes_for_a_client_that_resets_reach_no_other(launch: Launch, rng: random.Random) -> None:
    """Clients that read nothing or a part and reset with data in flight both ways end
    as client_rst. The next client of the same worker gets exactly its own bytes.
    """
    unpd = launch(ONE_WORKER)
    data = rng.randbytes(2 * MIB)
    for index in range(4):
        with clients.connect(unpd.address("echo")) as sock:
            sock.sendall(bytes(MIB // 2))
            clients.read_exactly(sock, MIB // 8 if index % 2 else MIB // 2)
            clients.send_until_blocked(sock, 32 * MIB, stall_s=0.1)
            clients.reset(sock)
        assert clients.converse(unpd.address("echo"), data) == data
    wait_ended(unpd, {"client_rst": 4, "client_fin": 4})


def test_parallel_streams_keep_their_bytes_apart(launch: Launch, rng: random.Random) -> None:
    """Four streams use one worker's relay, and two of them are read slowly, so that
    their sockets refuse part of the bytes.
    """
    unpd = launch(ONE_WORKER)
    data = [rng.randbytes(8 * MIB) for _ in range(4)]
    got: dict[int, bytes] = {}

    def talk(index: int) -> None:
        got[index] = clients.converse(
            unpd.address("echo"), data[index], receive_buffer=32768 if index % 2 else 0
        )

    talkers = [threading.Thread(target=talk, args=(index,)) for index in range(4)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    assert [got.get(index) == data[index] for index in range(4)] == [True] * 4
    counts = wait_ended(unpd, {"client_fin": 4})
    assert counts.received == counts.sent == 32 * MIB
