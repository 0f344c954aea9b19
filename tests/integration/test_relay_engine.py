"""Relaying between a client and a target, in an engine that the test turns by hand."""

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.descriptors import opened
from tests.support.engine import MIB, Bench, pattern
from tests.support.redirecting import (
    Redirects,
    Upstream,
    connected,
    failures,
    is_reset,
    pair,
    redirects,
    relay,
)
from unpd.config.times import ServiceTimes
from unpd.kernel.connections import unsent
from unpd.kernel.outgoing import numeric_address
from unpd.kernel.relay import Pipe, RefusedError
from unpd.kernel.resolver import Answer
from unpd.names import EndCause
from unpd.worker.event.session import QUIET_S
from unpd.worker.event.shared import LARGE_READ_BYTES, SMALL_READ_BYTES
from unpd.worker.redirect.dial import Dial
from unpd.worker.redirect.flow import End
from unpd.worker.redirect.session import LONGEST_DELIVERY_S
from unpd.worker.selection import Kick, Selection

SLOT_S = 0.125


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Redirects]:
    """Makes redirects and their targets."""
    with redirects(tmp_path) as made:
        yield made


def times(idle_s: float = 0.0, session_s: float = 0.0, user_s: float = 0.0) -> ServiceTimes:
    """Times of a service."""
    return ServiceTimes(idle_timeout_s=idle_s, session_timeout_s=session_s, user_timeout_s=user_s)


def ended(bench: Bench, cause: EndCause) -> None:
    """Assert that the only connection has ended, or ends now, for this cause."""
    bench.until(lambda: not bench.engine.open, "the end")
    bench.turn()
    assert bench.ended() == {cause: 1}
    assert bench.rests()


def read_to_the_end(bench: Bench, sock: socket.socket) -> bytes:
    """Everything up to the peer's FIN."""
    return bench.read(sock, 1 << 30)


# --- both directions ------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_bytes_go_both_ways(make: Redirects, listen: str, kind: str) -> None:
    """Between TCP over IPv4, TCP over IPv6 and UNIX sockets, however they are mixed.
    The service counts those of its clients.
    """
    upstream = make.upstream(kind)
    bench = make(upstream.text, listen=listen)
    client, target = pair(bench, upstream)
    client.sendall(b"a question")
    assert bench.read(target, 10) == b"a question"
    target.sendall(b"the answer")
    assert bench.read(client, 10) == b"the answer"
    client.close()
    assert read_to_the_end(bench, target) == b""
    target.close()
    ended(bench, EndCause.CLIENT_FIN)
    assert bench.bytes_counted() == (10, 10)
    assert connected(bench) == 1


def test_the_clients_fin_leaves_the_way_back_open(make: Redirects) -> None:
    """The target gets it, and may still answer for as long as it wants."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"all I have")
    client.shutdown(socket.SHUT_WR)
    assert read_to_the_end(bench, target) == b"all I have"
    target.setblocking(True)
    for piece in (b"late ", b"answer"):
        target.sendall(piece)
        assert bench.read(client, len(piece)) == piece
    assert relay(bench).describe(0.0)["state"] == "half_closed"
    target.close()
    assert read_to_the_end(bench, client) == b""
    ended(bench, EndCause.CLIENT_FIN)


def test_the_targets_fin_leaves_the_way_there_open(make: Redirects) -> None:
    """A target that has said everything still hears its client."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    target.sendall(b"the whole answer")
    target.shutdown(socket.SHUT_WR)
    assert read_to_the_end(bench, client) == b"the whole answer"
    client.setblocking(True)
    client.sendall(b"more")
    assert bench.read(target, 4) == b"more"
    client.close()
    assert read_to_the_end(bench, target) == b""
    ended(bench, EndCause.DONE)


def test_what_a_client_sends_before_its_target_is_reached_waits_in_the_kernel(
    make: Redirects,
) -> None:
    """Also its FIN. Nothing is read for a target that there is not."""
    upstream = make.upstream()
    bench = make("tcp://app.example:80")
    client = bench.connect()
    client.sendall(b"early")
    client.shutdown(socket.SHUT_WR)
    session = relay(bench)
    assert bench.rests()
    assert (session.up.read, session.describe(0.0)["target"]) == (0, "")
    resolve(make, upstream)
    target = upstream.take(bench)
    assert read_to_the_end(bench, target) == b"early"
    assert session.describe(0.0)["target"] == "tcp://app.example:80"


def resolve(make: Redirects, *upstreams: Upstream) -> None:
    """Answer the only name with the addresses of these targets."""
    (question,) = make.resolver.questions
    make.resolver.questions.clear()
    addresses = tuple(numeric_address(*upstream.sock.getsockname()[:2]) for upstream in upstreams)
    answer = Answer(question.number, addresses, "" if addresses else "not known")
    make.names._names[question.number].answered(answer, 1000.0)  # noqa: SLF001 - as its thread


def test_the_banner_comes_before_all_that_the_target_says(make: Redirects) -> None:
    """And before the target is reached."""
    upstream = make.upstream()
    bench = make("tcp://app.example:80", banner=b"welcome\r\n")
    client = bench.connect()
    assert bench.read(client, 9) == b"welcome\r\n"
    resolve(make, upstream)
    upstream.take(bench).sendall(b"220 ready\r\n")
    assert bench.read(client, 11) == b"220 ready\r\n"


def test_a_client_that_is_gone_before_its_banner_ends(make: Redirects) -> None:
    """It is no fault of ours, and no target is looked for."""
    upstream = make.upstream()
    bench = make(upstream.text, banner=b"welcome\r\n")
    client = bench.connect()
    client.shutdown(socket.SHUT_WR)
    clients.reset(client)
    bench.until(bench.ended, "the end")
    assert bench.ended() == {EndCause.CLIENT_RST: 1}
    assert not [line for line in bench.lines if b"connection.failed" in line]
    assert upstream.accept() is None


@pytest.mark.parametrize("version", [1, 2])
def test_the_target_gets_the_header_of_the_proxy_protocol_first(
    make: Redirects, version: int
) -> None:
    """With the client's address, and the one to which it has connected."""
    upstream = make.upstream()
    bench = make(upstream.text, send_proxy=version)
    client, target = pair(bench, upstream)
    client.sendall(b"hello")
    (_, source), (_, destination) = client.getsockname(), client.getpeername()
    if version == 1:
        header = f"PROXY TCP4 127.0.0.1 127.0.0.1 {source} {destination}\r\n".encode()
    else:
        loopback = bytes((127, 0, 0, 1))
        addresses = loopback + loopback + struct.pack(">HH", source, destination)
        header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + addresses
    assert bench.read(target, len(header) + 5) == header + b"hello"
    assert bench.bytes_counted() == (5, 0)


# --- much data ------------------------------------------------------------------------


@pytest.mark.parametrize("splices", [True, False], ids=["spliced", "copied"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bulk_data_arrives_whole(make: Redirects, kind: str, splices: bool) -> None:
    """In both directions, by splice(2) and by copies, with a reader that is slow. No
    pipe is left.
    """
    upstream = make.upstream(kind)
    bench = make(upstream.text, splices=splices)
    before = opened()
    client, target = pair(bench, upstream)
    for sender, receiver in ((client, target), (target, client)):
        moved = exchange(bench, sender, receiver, 24 * MIB)
        assert moved == 24 * MIB
    client.close()
    target.close()
    bench.until(lambda: not bench.engine.open, "the end")
    bench.advance(2.0)
    bench.advance(2.0)
    assert not opened() - before
    assert bench.bytes_counted() == (24 * MIB, 24 * MIB)


@pytest.mark.parametrize("splices", [True, False], ids=["spliced", "copied"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_pipe_is_held_only_during_a_bulk_transfer(
    make: Redirects, kind: str, splices: bool
) -> None:
    """While it is stuck, too; not before it, and no longer two seconds after it,
    although the session goes on. Bytes for a UNIX socket are copied.
    """
    upstream = make.upstream(kind)
    bench = make(upstream.text, splices=splices)
    client, target = pair(bench, upstream)
    before = opened("pipe:")

    def has_pipe_after(seconds: float) -> bool:
        for _ in range(2):
            bench.advance(seconds)
        return bool(opened("pipe:") - before)

    for sender, receiver in ((client, target), (target, client)) * 2:
        sender.setblocking(True)
        sender.sendall(b"a little")
        assert bench.read(receiver, 8) == b"a little"
        assert not has_pipe_after(2.0)
        sender.setblocking(False)
        stuck = stuff(bench, sender)
        is_spliced = splices and (kind == "tcp" or receiver is client)
        assert has_pipe_after(0.0) == is_spliced
        assert bench.read(receiver, stuck) == pattern(0, stuck)
        assert not has_pipe_after(2.0)
    assert bench.engine.open == 1


def exchange(bench: Bench, sender: socket.socket, receiver: socket.socket, count: int) -> int:
    """Send ``count`` bytes of the pattern, and compare what arrives."""
    sender.setblocking(False)
    receiver.setblocking(False)
    sent = got = 0

    def moved() -> bool:
        nonlocal sent, got
        with contextlib.suppress(BlockingIOError):
            sent += sender.send(pattern(sent, min(MIB, count - sent)))
        with contextlib.suppress(BlockingIOError):
            piece = receiver.recv(300_000)
            assert piece == pattern(got, len(piece))
            got += len(piece)
        return got == count

    bench.until(moved, "all bytes")
    return got


class NotFilled(Pipe):
    """A pipe into which no socket may be spliced."""

    def fill(self, fd: int, most: int) -> int:
        """Refuse."""
        raise RefusedError


class NotDrained(Pipe):
    """A pipe that may be spliced into no socket."""

    def drain(self, fd: int) -> int:
        """Refuse."""
        raise RefusedError


@pytest.mark.parametrize("kind", [NotFilled, NotDrained])
def test_bytes_are_copied_where_splice_is_refused(make: Redirects, kind: type[Pipe]) -> None:
    """Also those that are in a pipe already. A while later it is tried again."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    pipes = bench.engine._shared.pipes  # noqa: SLF001 - no kernel here refuses splice(2)
    pipes._idle.append(kind())  # noqa: SLF001
    assert exchange(bench, client, target, 8 * MIB) == 8 * MIB
    assert pipes.take() is None
    bench.advance(2.0)
    bench.advance(2.0)
    assert exchange(bench, client, target, 8 * MIB) == 8 * MIB
    pipe = pipes.take()
    assert pipe is not None
    pipes.give_back(pipe)


@pytest.mark.parametrize("splices", [True, False], ids=["spliced", "copied"])
def test_a_slow_reader_stops_the_reading_of_the_other_side(make: Redirects, splices: bool) -> None:
    """One read waits for it at most, whatever its peer sends. The engine rests, and the
    other direction goes on.
    """
    upstream = make.upstream()
    bench = make(upstream.text, splices=splices)
    client, target = pair(bench, upstream, receive_buffer=1)
    target.setblocking(False)
    stuck = stuff(bench, target)
    flow = relay(bench).down
    assert flow.waits
    assert 0 < flow.read - flow.written <= LARGE_READ_BYTES
    assert bench.rests()
    client.sendall(b"hello")
    assert bench.read(target, 5) == b"hello"
    assert bench.read(client, stuck) == pattern(0, stuck)
    assert not flow.waits


def stuff(bench: Bench, sock: socket.socket) -> int:
    """Send the pattern until nobody takes any more; return how much it was."""
    sent = 0

    def is_stuck() -> bool:
        nonlocal sent
        before = sent
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * MIB:
                sent += sock.send(pattern(sent, 65536))
        return sent == before and bench.rests()

    bench.until(is_stuck, "the sender to be stuck")
    return sent


def test_pipes_are_bounded(make: Redirects) -> None:
    """Flows for which no pipe is left copy, and all bytes arrive."""
    upstream = make.upstream()
    bench = make(upstream.text)
    bench.engine._shared.pipes._most = 1  # noqa: SLF001 - sixteen would need much memory
    pairs = [pair(bench, upstream, receive_buffer=1) for _ in range(3)]
    for _, target in pairs:
        target.setblocking(False)
    before = opened("pipe:")
    stuck = [stuff(bench, target) for _, target in pairs]
    assert len(opened("pipe:") - before) == 1
    for count, (client, _) in zip(stuck, pairs, strict=True):
        assert bench.read(client, count) == pattern(0, count)


# --- failures of one side -------------------------------------------------------------


@pytest.mark.parametrize("count", [6, SMALL_READ_BYTES, SMALL_READ_BYTES + 1, 100_000])
def test_a_reset_of_the_target_reaches_the_client_behind_its_bytes(
    make: Redirects, count: int
) -> None:
    """The client gets everything that came before, however it is read, and does not
    take it for the whole.
    """
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    target.sendall(pattern(0, count))
    clients.reset(target)
    assert bench.read(client, count) == pattern(0, count)
    bench.until(lambda: is_reset(client), "the reset")
    ended(bench, EndCause.TARGET_LOST)


def test_a_slow_client_gets_all_bytes_before_the_reset(make: Redirects) -> None:
    """A reset at once would drop what is still under way to it."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream, receive_buffer=1)
    target.setblocking(False)
    stuck, flow = stuff(bench, target), relay(bench).down
    bench.until(lambda: stuck - unsent(target.fileno()) > flow.read, "bytes in our kernel")
    sent = stuck - unsent(target.fileno())
    clients.reset(target)
    bench.until(lambda: relay(bench).stage.name == "CUT_OFF", "the reset of the target")
    bench.until(bench.rests, "rest")
    for _ in range(3):
        bench.advance(SLOT_S)
    assert bench.engine.open == 1
    assert bench.read(client, sent) == pattern(0, sent)
    left = read_to_the_reset(bench, client)  # what our kernel took, and the sender did not hear of
    assert left == pattern(sent, len(left))
    ended(bench, EndCause.TARGET_LOST)


def test_a_steady_reader_is_not_cut_off_however_slow_it_is(make: Redirects) -> None:
    """Although nothing is written to it for longer than it may take nothing at all."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream, receive_buffer=1)
    target.sendall(pattern(0, 64 * 1024))
    bench.until(lambda: relay(bench).down.written == 64 * 1024, "all bytes to be written")
    clients.reset(target)
    bench.until(lambda: relay(bench).stage.name == "CUT_OFF", "the reset of the target")
    got = 0
    while got < 64 * 1024:
        bench.advance(LONGEST_DELIVERY_S / 2)
        piece = bench.read(client, min(2048, 64 * 1024 - got))
        assert piece == pattern(got, len(piece))
        got += len(piece)
    assert read_to_the_reset(bench, client) == b""
    ended(bench, EndCause.TARGET_LOST)


def test_a_reader_that_takes_nothing_is_reset(make: Redirects) -> None:
    """It would hold its session for ever."""
    upstream = make.upstream()
    bench = make(upstream.text)
    _client, target = pair(bench, upstream, receive_buffer=1)
    target.sendall(pattern(0, 64 * 1024))
    bench.until(lambda: relay(bench).down.written == 64 * 1024, "all bytes to be written")
    clients.reset(target)
    bench.until(lambda: relay(bench).client.fd >= 0 > relay(bench).target.fd, "its reset")
    bench.advance(1.0)
    bench.advance(LONGEST_DELIVERY_S - 2.0)
    assert bench.engine.open == 1
    bench.advance(2.0)
    ended(bench, EndCause.TARGET_LOST)


def test_an_upload_that_was_whole_stays_whole(make: Redirects) -> None:
    """A client sends all of it and its FIN, and is gone when the answer comes. A slow
    target gets the FIN, as a fast one does.
    """
    upstream = make.upstream(receive_buffer=1)
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    session, sent = relay(bench), 0

    def waits() -> bool:
        nonlocal sent
        if session.up.waits:
            return True
        client.sendall(pattern(sent, 65536))
        sent += 65536
        return False

    bench.until(waits, "bytes that wait for the target")
    bench.until(lambda: not unsent(client.fileno()), "all bytes to be in our kernel")
    client.close()
    target.sendall(b"answer")
    bench.until(lambda: session.down.ended, "the reset of the client")
    assert session.up.waits
    assert bench.read(target, sent + 1) == pattern(0, sent)  # and a FIN
    ended(bench, EndCause.CLIENT_RST)


def test_a_unix_side_that_reads_no_more_may_still_send(make: Redirects) -> None:
    """It has only half-closed its connection (shutdown(2), SHUT_RD)."""
    upstream = make.upstream("unix")
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"hello")
    assert bench.read(target, 5) == b"hello"
    target.shutdown(socket.SHUT_RD)
    client.sendall(b"to nobody")
    bench.until(lambda: relay(bench).up.ended, "the write that fails")
    for piece in (b"late ", b"lines"):
        target.sendall(piece)
        assert bench.read(client, 5) == piece
    target.close()
    assert read_to_the_end(bench, client) == b""
    ended(bench, EndCause.TARGET_LOST)


def read_to_the_reset(bench: Bench, sock: socket.socket) -> bytes:
    """What came before the reset, for which the engine waits by the clock."""
    got = bytearray()

    def has_reset() -> bool:
        bench.clock.advance(SLOT_S)
        select.select([sock], [], [], 0.001)  # the kernel has its own time
        try:
            while piece := sock.recv(65536):
                got.extend(piece)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        raise AssertionError("a FIN, as if that were the whole")

    bench.until(has_reset, "the reset")
    return bytes(got)


@pytest.mark.parametrize("side", ["client", "target"])
def test_what_came_before_a_failed_write_is_passed_on(make: Redirects, side: str) -> None:
    """A write may be the first to meet the reset, before the last bytes are read."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    broken, other = (client, target) if side == "client" else (target, client)
    session = relay(bench)
    end = session.client if side == "client" else session.target
    client.sendall(b"hello")
    assert bench.read(target, 5) == b"hello"
    broken.sendall(b"the last words")
    clients.reset(broken)
    end.incoming.put(b"to nobody")
    assert bench.read(other, 14) == b"the last words"
    bench.until(lambda: is_reset(other), "the reset")
    ended(bench, EndCause.CLIENT_RST if side == "client" else EndCause.TARGET_LOST)


def test_what_waits_for_a_side_that_broke_is_given_up_at_once(make: Redirects) -> None:
    """The other side may take its time, and holds only what is on the way to it."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream, receive_buffer=1)
    for sock in (client, target):
        sock.setblocking(False)
        stuff(bench, sock)
    session = relay(bench)
    assert (session.up.waits, session.down.waits) == (True, True)
    clients.reset(target)
    bench.until(lambda: session.stage.name == "CUT_OFF", "the reset of the target")
    assert (session.up.waits, session.down.waits) == (False, True)


def test_a_reset_of_the_client_reaches_the_target_behind_its_bytes(make: Redirects) -> None:
    """A target does not take a part of an upload for the whole."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"a part")
    assert bench.read(target, 6) == b"a part"
    clients.reset(client)
    bench.until(lambda: is_reset(target), "the reset")
    ended(bench, EndCause.CLIENT_RST)


def test_a_client_that_resets_while_its_target_is_looked_for_ends_at_once(
    make: Redirects,
) -> None:
    """The look-up may go on, but not for this client."""
    upstream = make.upstream()
    bench = make("tcp://app.example:80")
    client = bench.connect()
    relay(bench)
    clients.reset(client)
    ended(bench, EndCause.CLIENT_RST)
    resolve(make, upstream)
    bench.turn()
    assert upstream.accept() is None


def test_a_unix_client_that_closes_at_once_still_delivers(make: Redirects) -> None:
    """Its bytes reach the target although it is gone, and the engine rests
    meanwhile.
    """
    upstream = make.upstream()
    bench = make("tcp://app.example:80", listen="unix")
    client = bench.connect()
    client.sendall(b"fire and forget")
    client.close()
    relay(bench)
    bench.until(bench.rests, "rest")
    resolve(make, upstream)
    target = upstream.take(bench)
    assert read_to_the_end(bench, target) == b"fire and forget"
    bench.until(bench.rests, "rest")
    target.close()
    ended(bench, EndCause.CLIENT_FIN)


# --- targets that fail ----------------------------------------------------------------


def test_clients_are_sent_to_the_targets_in_turn(make: Redirects) -> None:
    """One after the other."""
    upstreams = [make.upstream(), make.upstream("unix")]
    bench = make(*(upstream.text for upstream in upstreams))
    for index in (0, 1, 0, 1):
        pair(bench, upstreams[index])
    assert [connected(bench, target) for target in (0, 1)] == [2, 2]


def test_a_target_that_refuses_costs_the_client_nothing(make: Redirects) -> None:
    """The next one serves it. The first is left out for retry_s, and then asked once
    more. One line tells that it fails, one that it is back.
    """
    alive, dead = make.upstream(), make.dead()
    bench = make(dead, alive.text, retry_s=10.0)
    for _ in range(3):
        pair(bench, alive)
    assert (failures(bench), connected(bench, 1)) == ({"ECONNREFUSED": 1}, 3)
    bench.advance(10.0)
    pair(bench, alive)
    pair(bench, alive)
    assert failures(bench) == {"ECONNREFUSED": 2}
    (line,) = bench.events("target.failed")
    assert (line["service"], line["target"], line["retry_in_s"]) == ("web", dead, 10.0)
    assert line["reason"] == "Connection refused"
    assert bench.events("target.back") == []


def test_a_target_that_is_back_is_told(make: Redirects) -> None:
    """By the first connection that is made again."""
    path = make.path()
    bench = make(f"unix://{path}", retry_s=1.0)
    bench.connect()
    bench.until(bench.ended, "the end")
    assert failures(bench) == {"ENOENT": 1}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        pair(bench, Upstream(sock, f"unix://{path}"))
        pair(bench, Upstream(sock, f"unix://{path}"))
    (line,) = bench.events("target.back")
    assert line["target"] == f"unix://{path}"


def test_a_client_without_any_target_is_reset(make: Redirects) -> None:
    """It is counted, and one line a second tells of all such clients."""
    first, second = make.dead(), make.dead()
    bench = make(first, second)
    socks = [bench.connect() for _ in range(3)]
    for sock in socks:
        sock.setblocking(False)
        bench.until(lambda sock=sock: is_reset(sock), "the reset")  # type: ignore[misc]
    assert bench.ended() == {EndCause.NO_TARGET: 3}
    assert [failures(bench, target) for target in (0, 1)] == [{"ECONNREFUSED": 3}] * 2
    assert len(bench.events("redirect.no_target")) == 1
    bench.advance(1.0)
    bench.connect()
    bench.until(lambda: bench.ended() == {EndCause.NO_TARGET: 4}, "the end")
    assert [line["suppressed"] for line in bench.events("redirect.no_target")] == [0, 2]


def test_a_connect_that_takes_too_long_is_given_up(make: Redirects) -> None:
    """After connect_timeout_s the next target is tried. The queue of this one is full,
    so that its kernel answers nothing.
    """
    full, alive = make.upstream(backlog=0), make.upstream()
    with contextlib.ExitStack() as stack:
        fill(stack, full)
        bench = make(full.text, alive.text, connect_timeout_s=3.0)
        client = bench.connect()
        relay(bench)
        bench.advance(2.9)
        assert failures(bench) == {}
        bench.advance(0.3)
        target = alive.take(bench)
        client.sendall(b"hello")
        assert bench.read(target, 5) == b"hello"
        assert failures(bench) == {"ETIMEDOUT": 1}


def fill(stack: contextlib.ExitStack, upstream: Upstream) -> None:
    """Connect to a target until it takes no more."""
    while True:
        sock = stack.enter_context(socket.socket(upstream.sock.family))
        sock.settimeout(0.2)
        try:
            sock.connect(upstream.sock.getsockname())
        except (TimeoutError, BlockingIOError):
            return


def test_a_unix_target_whose_queue_is_full_is_tried_again(make: Redirects) -> None:
    """The client waits for room there, but not for longer than connect_timeout_s."""
    upstream = make.upstream("unix", backlog=0)
    with contextlib.ExitStack() as stack:
        fill(stack, upstream)
        bench = make(upstream.text, connect_timeout_s=3.0)
        client = bench.connect()
        relay(bench)
        bench.advance(1.0)
        assert failures(bench) == {}
        while (sock := upstream.accept()) is not None:
            sock.close()
        bench.advance(0.3)
        bench.until(lambda: relay(bench).target.fd >= 0, "the target")
        assert failures(bench) == {}
        client.close()

        fill(stack, upstream)
        other = bench.connect()
        other.setblocking(False)
        bench.until(lambda: bench.engine.open == 2, "the other client")
        for _ in range(20):
            bench.advance(0.2)
        bench.until(lambda: is_reset(other), "the reset")
        assert failures(bench) == {"EAGAIN": 1}


def test_a_target_that_is_closing_down_costs_the_client_nothing(make: Redirects) -> None:
    """A connection that breaks before any byte of either side was passed on is tried at
    the next target: it stood in the queue of a process that has ended.
    """
    dying, alive = make.upstream(), make.upstream()
    bench = make(dying.text, alive.text)
    client = bench.connect()
    bench.until(lambda: relay(bench).target.fd >= 0, "the first target")
    dying.sock.close()
    target = alive.take(bench)
    client.sendall(b"hello")
    assert bench.read(target, 5) == b"hello"
    assert failures(bench) == {"ECONNRESET": 1}


def test_what_a_target_could_not_take_any_more_goes_to_the_next(make: Redirects) -> None:
    """The first bytes of a client that came after its target had closed down."""
    dying, alive = make.upstream(), make.upstream()
    bench = make(dying.text, alive.text)
    client = bench.connect()
    bench.until(lambda: relay(bench).target.fd >= 0, "the first target")
    client.sendall(b"hello")
    dying.sock.close()
    target = alive.take(bench)
    assert bench.read(target, 5) == b"hello"
    assert bench.bytes_counted() == (5, 0)


def test_bytes_wait_for_the_next_target_as_long_as_it_is_looked_for(make: Redirects) -> None:
    """user_timeout_s is no limit for that: there is nobody who could take them."""
    dying, full, alive = make.upstream(), make.upstream(backlog=0), make.upstream()
    with contextlib.ExitStack() as stack:
        fill(stack, full)
        texts = (dying.text, full.text, alive.text)
        bench = make(*texts, connect_timeout_s=9.0, times=times(user_s=5.0))
        client = bench.connect()
        bench.until(lambda: relay(bench).target.fd >= 0, "the first target")
        client.sendall(b"hello")
        dying.sock.close()
        bench.until(lambda: relay(bench).target.fd < 0, "the loss of the first target")
        assert relay(bench).up.waits
        bench.advance(8.0)
        bench.advance(2.0)
        target = alive.take(bench)
        assert bench.read(target, 5) == b"hello"
        assert bench.events("connection.failed") == []


def test_nobody_is_idle_while_a_target_is_looked_for(make: Redirects) -> None:
    """The dial has limits of its own. The worker rests meanwhile, and the session may
    be idle for as long as any other once the target is reached.
    """
    upstream = make.upstream()
    bench = make("tcp://app.example:80", connect_timeout_s=60.0, times=times(idle_s=5.0))
    bench.connect()
    session = relay(bench)
    bench.advance(6.0)
    assert bench.engine.open == 1
    assert session.shared.wheel.next_at > session.shared.now
    resolve(make, upstream)
    bench.until(lambda: relay(bench).target.fd >= 0, "the target")
    bench.advance(4.0)
    assert bench.engine.open == 1
    bench.advance(2.0)
    ended(bench, EndCause.IDLE)


def test_a_client_that_does_not_read_its_banner_is_stalled(make: Redirects) -> None:
    """Also while its target is looked for."""
    banner = bytes(1 << 20)
    bench = make(
        "tcp://app.example:80",
        listen="unix",
        banner=banner,
        connect_timeout_s=60.0,
        times=times(user_s=5.0),
    )
    bench.connect()
    relay(bench)
    bench.advance(4.0)
    assert bench.engine.open == 1
    bench.advance(2.0)
    ended(bench, EndCause.STALLED)


def test_a_target_that_answered_nothing_after_a_byte_is_not_replaced(make: Redirects) -> None:
    """It may have acted on it, and must not do so twice."""
    dying, alive = make.upstream(), make.upstream()
    bench = make(dying.text, alive.text)
    client = bench.connect()
    client.sendall(b"buy")
    bench.until(lambda: relay(bench).up.written, "the order")
    dying.sock.close()
    client.setblocking(False)
    bench.until(lambda: is_reset(client), "the reset")
    assert alive.accept() is None
    ended(bench, EndCause.TARGET_LOST)


def test_all_addresses_of_a_name_are_tried(make: Redirects) -> None:
    """Before the next target, and each failure is counted for the name."""
    gone, alive = make.upstream(), make.upstream()
    bench = make("tcp://app.example:80")
    bench.connect()
    relay(bench)
    gone.sock.setblocking(False)
    resolve(make, Gone(gone), alive)
    alive.take(bench)
    bench.until(lambda: connected(bench), "the connection")
    assert (failures(bench), connected(bench)) == ({"ECONNREFUSED": 1}, 1)
    assert bench.events("target.failed") == []


class Gone(Upstream):
    """A target that has closed its listener; its port stays bound."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream.sock, upstream.text)
        upstream.sock.shutdown(socket.SHUT_RDWR)


def test_a_name_without_an_address_is_counted_as_unresolved(make: Redirects) -> None:
    """The next target is taken; the line has the reason of the resolver."""
    alive = make.upstream()
    bench = make("tcp://app.example:80", alive.text)
    bench.connect()
    relay(bench)
    resolve(make)
    alive.take(bench)
    assert failures(bench) == {"unresolved": 1}
    (line,) = bench.events("target.failed")
    assert line["reason"] == "no address: not known"


def test_a_client_waits_for_a_name_only_as_long_as_for_a_connect(make: Redirects) -> None:
    """A resolver that does not answer is no reason to wait for ever."""
    alive = make.upstream()
    bench = make("tcp://app.example:80", alive.text, connect_timeout_s=2.0)
    bench.connect()
    relay(bench)
    bench.advance(1.9)
    assert failures(bench) == {}
    bench.advance(0.3)
    alive.take(bench)
    assert failures(bench) == {"unresolved": 1}


def test_an_event_of_the_socket_before_means_nothing(make: Redirects) -> None:
    """Within a turn a descriptor may be closed and get another socket. Neither a client
    that waits for its target nor a connect under way is taken for broken.
    """
    full = make.upstream(backlog=0)
    with contextlib.ExitStack() as stack:
        fill(stack, full)
        bench = make(full.text)
        bench.connect()
        session = relay(bench)
        everything = select.EPOLLIN | select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP
        for target in bench.engine._poller.after(-1):  # noqa: SLF001 - nothing else has events
            if isinstance(target, End | Dial):
                target.ready(everything)
        assert (bench.engine.open, session.stage.name) == (1, "CONNECTING")
        assert failures(bench) == {}


# --- limits ---------------------------------------------------------------------------


def test_a_session_on_which_nothing_happens_is_closed(make: Redirects) -> None:
    """Bytes of either direction put that off. Both sides get a FIN."""
    upstream = make.upstream()
    bench = make(upstream.text, times=times(idle_s=10.0))
    client, target = pair(bench, upstream)
    for sock, other in ((client, target), (target, client)):
        bench.advance(9.0)
        sock.send(b"x")
        assert bench.read(other, 1) == b"x"
    bench.advance(9.0)
    assert bench.engine.open == 1
    bench.advance(1.2)
    assert (read_to_the_end(bench, client), read_to_the_end(bench, target)) == (b"", b"")
    ended(bench, EndCause.IDLE)


def test_a_session_at_its_limit_is_reset_on_both_sides(make: Redirects) -> None:
    """Whatever happens on it: neither side takes a part for the whole."""
    upstream = make.upstream()
    bench = make(upstream.text, times=times(session_s=10.0))
    client, target = pair(bench, upstream)
    for _ in range(2):
        bench.advance(4.0)
        client.send(b"x")
        assert bench.read(target, 1) == b"x"
    bench.advance(2.2)
    client.setblocking(False)
    bench.until(lambda: is_reset(client) and is_reset(target), "the resets")
    ended(bench, EndCause.SESSION_LIMIT)


def test_a_unix_client_that_reads_nothing_is_stalled(make: Redirects) -> None:
    """After user_timeout_s. For TCP the kernel tells."""
    upstream = make.upstream()
    bench = make(upstream.text, listen="unix", times=times(user_s=5.0))
    _, target = pair(bench, upstream)
    target.setblocking(False)
    stuff(bench, target)
    bench.advance(4.0)
    assert bench.engine.open == 1
    bench.advance(1.2)
    ended(bench, EndCause.STALLED)


def test_a_target_that_reads_nothing_is_lost(make: Redirects) -> None:
    """The same on the other side has another cause."""
    upstream = make.upstream("unix")
    bench = make(upstream.text, times=times(user_s=5.0))
    client, _ = pair(bench, upstream)
    client.setblocking(False)
    stuff(bench, client)
    bench.advance(5.2)
    ended(bench, EndCause.TARGET_LOST)


# --- the end of the worker ------------------------------------------------------------


def test_a_graceful_stop_ends_quiet_sessions_after_a_moment(make: Redirects) -> None:
    """With a FIN for both sides."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    target.sendall(b"hello")
    assert bench.read(client, 5) == b"hello"
    bench.engine.finish(bench.clock.now + 7.5, 2.0)
    bench.advance(QUIET_S + 2 * SLOT_S)
    assert read_to_the_end(bench, client) == b""
    ended(bench, EndCause.SHUTDOWN)


def test_a_graceful_stop_waits_for_an_answer(make: Redirects) -> None:
    """A client that has asked is not quiet, until the target has answered."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"a slow question")
    assert bench.read(target, 15) == b"a slow question"
    bench.engine.finish(bench.clock.now + 7.5, 2.0)
    bench.advance(5.0)
    assert bench.engine.open == 1
    target.setblocking(True)
    target.sendall(b"the answer")
    assert bench.read(client, 10) == b"the answer"
    bench.advance(QUIET_S + 2 * SLOT_S)
    ended(bench, EndCause.SHUTDOWN)


def test_a_graceful_stop_waits_no_longer_than_it_may(make: Redirects) -> None:
    """At its end the session is reset."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"x")
    assert bench.read(target, 1) == b"x"
    bench.engine.finish(bench.clock.now + 7.5, 2.0)
    bench.advance(7.7)
    client.setblocking(False)
    assert is_reset(client)
    ended(bench, EndCause.SHUTDOWN)


def test_a_graceful_stop_cuts_a_stream_off_at_its_end(make: Redirects) -> None:
    """A target that sends all the time does not hold the worker up, and its client does
    not take the part for the whole.
    """
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    bench.engine.finish(bench.clock.now + 1.0, 2.0)
    for _ in range(10):
        target.send(b"x")
        assert bench.read(client, 1) == b"x"
        bench.advance(0.1)
    target.send(b"x")
    bench.advance(2 * SLOT_S)
    bench.until(lambda: not bench.engine.open, "the end")
    assert client.recv(1) == b"x"
    assert is_reset(client)
    ended(bench, EndCause.SHUTDOWN)


def test_a_graceful_stop_ends_what_is_being_delivered(make: Redirects) -> None:
    """A slow client whose target broke gets its bytes for no longer than the stop
    lasts.
    """
    upstream = make.upstream()
    bench = make(upstream.text, times=times(idle_s=600.0))
    _, target = pair(bench, upstream, receive_buffer=1)
    target.setblocking(False)
    stuff(bench, target)
    clients.reset(target)
    bench.until(lambda: relay(bench).stage.name == "CUT_OFF", "the reset of the target")
    bench.engine.finish(bench.clock.now + 1.0, 2.0)
    bench.advance(0.8)
    assert bench.engine.open == 1
    bench.advance(0.5)
    ended(bench, EndCause.TARGET_LOST)


def test_a_quick_stop_ends_what_is_being_delivered(make: Redirects) -> None:
    """A slow target whose client broke is let go, and no descriptor is left."""
    upstream = make.upstream(receive_buffer=1)
    bench = make(upstream.text)
    before = opened()
    target = delivering(bench, upstream)
    bench.engine.leave()
    assert bench.ended() == {EndCause.CLIENT_RST: 1}
    target.close()
    assert not opened() - before


def delivering(bench: Bench, upstream: Upstream) -> socket.socket:
    """A target that is slow to read what its client has sent, which then broke."""
    client, target = pair(bench, upstream)
    client.sendall(pattern(0, 32 * 1024))
    bench.until(lambda: relay(bench).up.written == 32 * 1024, "its bytes")
    clients.reset(client)
    bench.until(lambda: relay(bench).client.fd < 0, "its reset")
    return target


def test_what_is_being_delivered_is_listed(make: Redirects) -> None:
    """Although its client is gone."""
    upstream = make.upstream(receive_buffer=1)
    bench = make(upstream.text)
    _target = delivering(bench, upstream)
    (session,) = bench.engine.connections()
    assert session.describe(bench.clock.now)["state"] == "cut_off"
    assert list(bench.engine.connections(after=session.number)) == []


def test_a_denied_client_that_is_gone_leaves_nothing_behind(make: Redirects) -> None:
    """What it sent is under way to a slow target, which is reset."""
    upstream = make.upstream(receive_buffer=1)
    bench = make(upstream.text)
    target = delivering(bench, upstream)
    assert bench.engine.kick(Kick(Selection())) == 1
    with pytest.raises(ConnectionResetError):
        bench.read(target, 32 * 1024)
    ended(bench, EndCause.CLIENT_RST)


def test_a_quick_stop_ends_all_sessions(make: Redirects) -> None:
    """Those that look for a target, too. No descriptor is left."""
    upstream = make.upstream()
    bench = make(upstream.text, "tcp://app.example:80")
    before = opened()
    socks = [bench.connect() for _ in range(2)]
    bench.until(lambda: bench.engine.open == 2, "both")
    bench.until(lambda: connected(bench) == 1, "the first target")
    bench.engine.leave()
    assert bench.ended() == {EndCause.SHUTDOWN: 2}
    for sock in socks:
        sock.close()
    assert not opened() - before


def test_a_denied_client_is_cut_off_on_both_sides(make: Redirects) -> None:
    """By unpd deny --kick."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    assert bench.engine.kick(Kick(Selection())) == 1
    client.setblocking(False)
    target.setblocking(False)
    assert is_reset(client)
    assert is_reset(target)
    ended(bench, EndCause.DENIED)


def test_the_line_about_the_end_names_the_target(make: Redirects) -> None:
    """With the bytes of both directions."""
    upstream = make.upstream()
    bench = make(upstream.text)
    client, target = pair(bench, upstream)
    client.sendall(b"hello")
    assert bench.read(target, 5) == b"hello"
    client.close()
    target.close()
    bench.until(lambda: not bench.engine.open, "the end")
    (line,) = bench.events("connection.ended")
    assert (line["target"], line["received"], line["sent"]) == (upstream.text, 5, 0)
