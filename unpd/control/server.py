"""The control socket on the master's own loop: bounded in connections, bytes and time,
and never waiting for anybody.

The file's owner and mode (0660, the master's own user and group) say who may connect.
Where the master is root, the user whom its children become is refused by its
credentials (SO_PEERCRED) all the same: a worker that was taken over must not command
its master.
"""

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpd.control.protocol import (
    MAX_REQUEST_BYTES,
    ProtocolError,
    Request,
    decode_request,
    encode_answer,
)
from unpd.errors import CannotCreateError
from unpd.kernel import sockets
from unpd.kernel.sockets import ListenOptions
from unpd.loop import Loop, now

MAX_PEERS = 32
PATIENCE_S = 5.0
"""How long a peer may take to say its line or to read the answer."""
_OPTIONS = ListenOptions(
    backlog=64, ipv6_only=False, keepalive=False, user_timeout_s=0.0, mode=0o660
)


@dataclass(slots=True)
class Peer:
    """One connection: what it said so far, what it has not read yet, and whether its
    request waits for the daemon.
    """

    sock: socket.socket
    pid: int
    uid: int
    deadline_at: float
    said: bytes = b""
    unsent: bytes = b""
    waiting: bool = False


class ControlServer:
    """Listens at ``path``; hands each request to ``ask(self, number, request)``, which
    calls :meth:`answer` now or later. ``refused_uid`` may not ask (None: nobody).
    """

    def __init__(
        self,
        path: Path,
        refused_uid: int | None,
        wait: Loop,
        ask: "Callable[[ControlServer, int, Request], None]",
    ) -> None:
        try:
            self._sock = sockets.listen_unix(str(path), _OPTIONS)
            self._inode = path.lstat().st_ino
        except OSError as error:
            raise CannotCreateError(
                f"cannot make the control socket {path}: {error.strerror}"
            ) from error
        self._refused_uid = refused_uid
        self._loop, self._ask = wait, ask
        self._peers: dict[int, Peer] = {}
        self._next = 1
        self._listen()

    def _listen(self) -> None:
        self._loop.watch(self._sock.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, events: int) -> None:
        del events
        try:
            sock = self._sock.accept()[0]
        except BlockingIOError:
            return  # gone again
        except OSError:
            # No descriptor for it: the peer waits until expire() listens again. Watched
            # on, a queue that cannot be emptied would make the loop spin.
            self._loop.forget(self._sock.fileno())
            return
        sock.setblocking(False)
        pid, uid, _ = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if len(self._peers) >= MAX_PEERS:
            sock.close()
            return
        number, self._next = self._next, self._next + 1
        peer = Peer(sock, pid, uid, now() + PATIENCE_S)
        self._peers[number] = peer
        self._loop.watch(sock.fileno(), select.EPOLLIN, lambda events: self._ready(number, events))
        if uid == self._refused_uid:
            self.answer(number, ok=False, reason=f"user {uid} may not control this daemon")

    def _ready(self, number: int, events: int) -> None:
        peer = self._peers[number]
        if events & select.EPOLLOUT:
            self._write(number, peer)
        elif not self._read(number, peer):
            self._close(number)

    def _read(self, number: int, peer: Peer) -> bool:
        """Read on; False if the peer is gone or says too much."""
        try:
            piece = peer.sock.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if peer.waiting:
            # It has asked: what more it says is not wanted, and that it says no more
            # (nc -N) is no reason to withhold the answer.
            self._loop.watch(peer.sock.fileno(), 0, lambda _: self._close(number))
            return True
        if not piece:
            return False
        peer.said += piece
        line, newline, _ = peer.said.partition(b"\n")
        if not newline:
            return len(peer.said) < MAX_REQUEST_BYTES
        peer.waiting = True
        try:
            request = decode_request(line)
        except ProtocolError as error:
            self.answer(number, ok=False, reason=str(error))
        else:
            self._ask(self, number, request)
        return True

    def peer(self, number: int) -> Peer:
        """Who asked request ``number``, while it waits for its answer."""
        return self._peers[number]

    def answer(self, number: int, **fields: Any) -> None:
        """Answer request ``number``; one whose peer has gone is no loss."""
        peer = self._peers.get(number)
        if peer is not None:
            peer.unsent = encode_answer(**fields)
            peer.deadline_at = now() + PATIENCE_S
            self._write(number, peer)

    def _write(self, number: int, peer: Peer) -> None:
        try:
            peer.unsent = peer.unsent[peer.sock.send(peer.unsent, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            peer.unsent = b""
        if peer.unsent:
            self._loop.watch(
                peer.sock.fileno(), select.EPOLLOUT, lambda events: self._ready(number, events)
            )
        else:
            self._close(number)

    def _close(self, number: int) -> None:
        peer = self._peers.pop(number)
        self._loop.forget(peer.sock.fileno())
        peer.sock.close()

    def expire(self) -> None:
        """Once a second: close peers that took too long (one that waits for the daemon
        has the daemon's time), and listen again after a failed accept.
        """
        self._listen()
        for number, peer in list(self._peers.items()):
            if peer.deadline_at <= now() and (peer.unsent or not peer.waiting):
                self._close(number)

    def close(self) -> None:
        """Stop listening and remove the socket's file; peers get no answer any more."""
        for number in list(self._peers):
            self._close(number)
        self._loop.forget(self._sock.fileno())
        sockets.remove_path(self._sock, self._inode)
        self._sock.close()
