"""The answering end of the control socket, on the master's own loop: bounded in
connections, bytes and time, and never waiting for a peer.

Owns the listener, its file and the connections. Made by boot; calls the protocol, and
hands each request to the master's shell. Errors: CannotCreateError at the start;
afterwards a connection that fails is closed, and a request that makes no sense is
answered with the reason.

An answer may have several lines (:meth:`ControlServer.answer_in_parts`), such as that
to a command that follows the events. A peer gets the next line when it has taken the
one before, so that it holds up nobody and fills no memory, and is cut off if it takes
none for PEER_TIMEOUT_S.

The file's owner and mode (0660, the master's own user and group) say which processes
may connect; with control.read_group so may the members of that group, by an access
control list. Where that cannot be made, the daemon serves on without it, and the group
is shut out. :mod:`unpd.control.callers` decides which of them may ask for what.
"""

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

from unpd.config.control import ReadGroup
from unpd.control import verbs
from unpd.control.callers import Callers
from unpd.control.protocol import (
    MAX_REQUEST_BYTES,
    ProtocolError,
    Request,
    decode_request,
    encode_answer,
)
from unpd.errors import CannotCreateError
from unpd.json_lines import LineBuffer, LineError
from unpd.kernel import sockets
from unpd.kernel.credentials import Credentials, peer_credentials, peer_groups
from unpd.kernel.sockets import ListenOptions
from unpd.loop import Loop, now

MAX_PEERS = 32
MAX_LOOKERS = 24
"""How many of them may be processes that may only look: the others stay for those that
can stop the daemon.
"""
PEER_TIMEOUT_S = 5.0
"""The time that a peer has to send its request, and again to read the answer."""
_OPTIONS = ListenOptions(
    backlog=64, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0o660
)


_REASONS: Mapping[int, str] = MappingProxyType(
    {
        errno.EADDRINUSE: "another program listens there",
        errno.EEXIST: "something that is not a socket is there; move it away first",
        errno.ENOENT: "the directory does not exist",
        errno.ENOTSUP: (
            "its file system has no access control lists, which control.read_group needs"
        ),
    }
)


def _reason_of(error: OSError) -> str:
    """Why the socket cannot be made, as the end of a sentence."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


@dataclass(frozen=True, slots=True)
class ControlRepair:
    """The repair of a control socket that no client could reach. ``remade``: it can be
    reached again. ``reason``: why it could not, or why it still cannot.
    """

    remade: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that waits for its answer. ``number`` names it to :meth:`answer`.
    ``descriptor``: what came with it, which stays the server's; None: nothing.
    """

    number: int
    request: Request
    credentials: Credentials
    descriptor: int | None = None


class Parts(Protocol):
    """The lines of an answer that has several: the fields of each. ``more`` is among
    them, false in the last line.
    """

    def next(self) -> Mapping[str, Any] | None:
        """The next line; None while there is nothing new."""

    def last(self) -> Mapping[str, Any]:
        """The last line, because the daemon ends."""


@dataclass(slots=True)
class Peer:
    """One connection. ``waiting``: its request is complete, and the daemon has yet to
    answer it. ``descriptor``: the one that came with the request. ``parts``: the lines
    that are left of its answer, None for an answer of one line. ``looks``: it may only
    look.
    """

    sock: socket.socket
    credentials: Credentials
    deadline_at: float
    looks: bool = False
    received: LineBuffer = field(default_factory=lambda: LineBuffer(MAX_REQUEST_BYTES))
    unsent: bytes = b""
    waiting: bool = False
    descriptor: int | None = None
    parts: Parts | None = None


class ControlServer:
    """Listens at ``path`` and hands each request to ``asked(self, pending)``, which
    calls :meth:`answer` now or later. ``callers`` decides who may ask, and ``refused``
    is called with each refusal.
    """

    def __init__(
        self,
        callers: Callers,
        loop: Loop,
        asked: "Callable[[ControlServer, PendingRequest], None]",
        refused: Callable[[Credentials, str], None],
    ) -> None:
        self.path = callers.path
        self.shut_out = ""
        """Why the group that may look cannot connect; "" if it can."""
        self._callers = callers
        try:
            self._sock, self._inode = self._make()
        except OSError as error:
            raise CannotCreateError(
                f"cannot make the control socket {self.path}: {_reason_of(error)}"
            ) from error
        self._admit()
        self._loop, self._asked, self._refused = loop, asked, refused
        self._peers: dict[int, Peer] = {}
        self._next_number = 1
        self._listen()

    def _make(self) -> tuple[socket.socket, int]:
        """Return a new socket, and the inode of its file. OSError."""
        sock = sockets.listen_unix(self.path, _OPTIONS)
        return sock, sockets.socket_inode(self.path)

    def let_look(self, readers: ReadGroup | None) -> None:
        """Let the members of this group look from now on, and of no other;
        :attr:`shut_out` says why they cannot.
        """
        self._callers.readers = readers
        self._admit()

    def _admit(self) -> None:
        readers = self._callers.readers
        try:
            sockets.admit_group(self._sock, self._inode, readers.gid if readers else None)
            self.shut_out = ""
        except OSError as error:
            self.shut_out = _reason_of(error)

    def _listen(self) -> None:
        self._loop.watch(self._sock.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, events: int) -> None:
        del events
        try:
            sock = self._sock.accept()[0]
        except BlockingIOError:
            return  # gone again
        except OSError:
            # Without a free descriptor the connection stays in the queue, and a watched
            # listener would make the loop spin. expire() watches it again.
            self._loop.forget(self._sock.fileno())
            return
        if len(self._peers) >= MAX_PEERS:
            sock.close()
            return
        try:
            credentials = self._credentials(sock)
        except OSError:  # a caller that nobody knows may ask for nothing
            sock.close()
            return
        looks = not self._callers.may_change(credentials)
        if looks and sum(peer.looks for peer in self._peers.values()) >= MAX_LOOKERS:
            sock.close()
            return
        sock.setblocking(False)
        number, self._next_number = self._next_number, self._next_number + 1
        peer = Peer(sock, credentials, now() + PEER_TIMEOUT_S, looks)
        self._peers[number] = peer
        self._loop.watch(sock.fileno(), select.EPOLLIN, lambda events: self._ready(number, events))
        reason = self._callers.refusal(peer.credentials)
        if reason:
            self._refused(credentials, reason)
            self._refuse(number, reason)

    def _credentials(self, sock: socket.socket) -> Credentials:
        """The credentials of a peer, with its groups where they count. OSError."""
        credentials = peer_credentials(sock)
        if self._callers.readers is None:
            return credentials
        return replace(credentials, groups=peer_groups(sock))

    def _ready(self, number: int, events: int) -> None:
        peer = self._peers[number]
        if events & select.EPOLLOUT and peer.unsent:
            self._write(number, peer)
        elif events & select.EPOLLOUT:
            self._go_on(number, peer)
        elif not self._read(number, peer):
            self._close(number)

    def _read(self, number: int, peer: Peer) -> bool:
        """Read a piece. False if the peer has gone or sent too much."""
        try:
            piece, came, _, _ = socket.recv_fds(
                peer.sock, MAX_REQUEST_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        except OSError:
            return False
        if came and peer.descriptor is None:
            peer.descriptor = came.pop()
        for fd in came:  # one is enough
            os.close(fd)
        if peer.waiting:
            # More bytes after the request are ignored. The end of the peer's bytes
            # (nc -N) is no reason to withhold the answer.
            self._loop.watch(peer.sock.fileno(), 0, lambda _: self._close(number))
            return True
        if not piece:
            return False
        try:
            lines = peer.received.feed(piece)
        except LineError:
            return False
        if lines:
            peer.waiting = True
            self._take(number, peer, lines[0])
        return True

    def _take(self, number: int, peer: Peer, line: bytes) -> None:
        try:
            request = decode_request(line)
        except ProtocolError as error:
            self._refuse(number, str(error))
            return
        reason = self._callers.refusal_of(verbs.find(request.verb), peer.credentials)
        if reason:
            self._refused(peer.credentials, reason)
            self._refuse(number, reason)
            return
        self._asked(self, PendingRequest(number, request, peer.credentials, peer.descriptor))

    def _refuse(self, number: int, reason: str) -> None:
        self.answer(number, ok=False, reason=reason)

    def answer(self, number: int, **fields: Any) -> None:
        """Answer request ``number``. If its peer has gone, the answer is dropped."""
        peer = self._peers.get(number)
        if peer is not None:
            self._send(number, peer, fields)

    def answer_in_parts(self, number: int, parts: Parts) -> None:
        """Answer request ``number`` with the lines of ``parts``, one at a time."""
        peer = self._peers.get(number)
        if peer is not None:
            peer.parts = parts
            self._go_on(number, peer)

    @property
    def followers(self) -> int:
        """How many peers have an answer in parts that has not ended."""
        return sum(peer.parts is not None for peer in self._peers.values())

    def is_waited_for(self, number: int) -> bool:
        """Whether the peer of request ``number`` is still there."""
        return number in self._peers

    def go_on(self) -> None:
        """Send every peer the next line of its parts, if there is one and the peer has
        taken the line before. Called in each turn of the loop.
        """
        for number, peer in list(self._peers.items()):
            if peer.parts is not None and not peer.unsent:
                self._go_on(number, peer)

    def _go_on(self, number: int, peer: Peer) -> None:
        fields = peer.parts.next() if peer.parts else None
        if fields is None:
            # Nothing is awaited of this peer but its end.
            self._loop.watch(peer.sock.fileno(), 0, lambda _: self._close(number))
            return
        if not fields["more"]:
            peer.parts = None
        self._send(number, peer, fields)

    def _send(self, number: int, peer: Peer, fields: Mapping[str, Any]) -> None:
        peer.unsent = encode_answer(**fields)
        peer.deadline_at = now() + PEER_TIMEOUT_S
        self._write(number, peer)

    def _write(self, number: int, peer: Peer) -> None:
        try:
            peer.unsent = peer.unsent[peer.sock.send(peer.unsent, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            peer.unsent, peer.parts = b"", None
        if peer.unsent or peer.parts:
            self._loop.watch(
                peer.sock.fileno(), select.EPOLLOUT, lambda events: self._ready(number, events)
            )
        else:
            self._close(number)

    def _close(self, number: int) -> None:
        peer = self._peers.pop(number)
        self._loop.forget(peer.sock.fileno())
        peer.sock.close()
        if peer.descriptor is not None:
            os.close(peer.descriptor)

    def expire(self) -> list[Credentials]:
        """Close peers that took too long (one whose request waits for the daemon has
        the daemon's time), and listen again after a failed accept. Return those that
        did not read their answer. Called once a second.
        """
        self._listen()
        cut_off = []
        for number, peer in list(self._peers.items()):
            if peer.deadline_at <= now() and (peer.unsent or not peer.waiting):
                cut_off += [peer.credentials] if peer.unsent else []
                self._close(number)
        return cut_off

    def mend(self) -> ControlRepair | None:
        """Make the socket again if its file was removed or replaced. None if clients
        can reach it. A file that belongs to another program stays. Called once a
        second. A group that is shut out is let in as soon as that can be done.

        Connections that are open go on. Those in the old socket's queue are lost.
        """
        if self._inode and sockets.socket_inode(self.path) == self._inode:
            if self.shut_out:
                self._admit()
            return None
        gone = not os.path.lexists(self.path)
        try:
            sock, inode = self._make()
        except OSError as error:
            return ControlRepair(False, _reason_of(error))
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._sock, self._inode = sock, inode
        self._admit()
        self._listen()
        return ControlRepair(True, "its file was removed" if gone else "its file was replaced")

    def close(self) -> None:
        """Stop listening, remove the socket's file and close every connection without
        an answer, but for those that follow: they wait for :meth:`farewell`.
        """
        for number, peer in list(self._peers.items()):
            if peer.parts is None:
                self._close(number)
        self._loop.forget(self._sock.fileno())
        sockets.remove_path(self._sock, self._inode)
        self._sock.close()

    def farewell(self) -> None:
        """Send those that follow their last line, and close their connections. One that
        has not taken its line before gets the rest of that alone, as far as there is
        room.
        """
        for number, peer in list(self._peers.items()):
            if peer.parts is not None:
                line = peer.unsent or encode_answer(**peer.parts.last())
                with contextlib.suppress(OSError):
                    peer.sock.send(line, socket.MSG_NOSIGNAL)
            self._close(number)
