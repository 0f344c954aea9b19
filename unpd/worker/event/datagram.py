"""Datagrams in a worker: receives them, lets the service answer, and sends only the
answers that can do no harm.

A datagram service answers whoever seems to ask, and a sender can forge its address. So
these are never answered: a source port below 1024 and every port of unpd itself, where
another server would answer our answer without end (CVE-1999-0103, CVE-2024-2169); and
broadcast and multicast addresses, where many would answer one. How much a network may
be sent is the matter of :mod:`unpd.worker.networks`. The access rules and limits of the
service (:mod:`unpd.worker.admission`) come before all that.

A UNIX sender can forge its address too: it gives its socket a relative name, which
would lead elsewhere from here, or puts a symbolic link in the place of its socket. So a
relative name is not answered, nor is a socket of unpd itself; and the rates hold for
each name, because two servers would answer each other without end.

A turn serves a bounded batch; the poller is level-triggered, so the rest comes with the
next turn. Workers share the socket, which belongs to the master: one that dies or
leaves lets the kernel's queue to the others.

Owns the socket's duplicate in this worker. The engine calls it, and it counts in the
ledger. Errors of the network are counted, and the loop goes on. Raises nothing.

Known gaps: the rates and the amplification are of one worker. An answer to a UNIX
sender goes where its path leads at that moment, with the rights of the worker. One
client that reads nothing keeps no other from short answers, but enough of them fill the
send buffer (:func:`unpd.kernel.datagrams.room_for_long`).
"""

import errno
import select
import socket
import time
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from unpd.access import peer as access_peer
from unpd.access.decide import ADMITTED
from unpd.access.peer import UNIX, peer_of
from unpd.board import layout
from unpd.errors import error_text
from unpd.kernel import senders
from unpd.kernel.batches import BATCH, MAX_DATAGRAM_BYTES, AnyBatch, make_batch
from unpd.kernel.datagrams import is_shut_down, room_for_long
from unpd.line_limit import LineLimit
from unpd.logs import trace_of
from unpd.names import Unanswered
from unpd.services.base import DatagramService, Peer
from unpd.worker.admission import DatagramAdmission
from unpd.worker.event.shared import Shared
from unpd.worker.networks import Network, Networks

LOWEST_PORT = 1024
"""Source ports below it are those of servers (RFC 6335 section 6)."""
PATROL_S = 1.0
"""How often a socket is looked at for which this worker was not woken: the kernel wakes
one worker for a datagram, and that one may have died.
"""
DRAIN_BATCHES = 64
"""How many batches of a socket a leaving worker answers at most: more than the kernel
queues by default (net.core.rmem_default).
"""
MAX_SENDERS = 512
"""How many senders a socket remembers: to read an address takes 3 us, to find it again
0.1 us. When there are more, all are forgotten.
"""
MOST_ERRORS = 16
"""How many receives in a row may fail. An error of the network comes once; that of a
filter (seccomp(2)) comes each time, and epoll calls the socket ready for ever.
"""
SHORT_BYTES = 1472
"""An answer that is no longer may fill the whole send buffer, a longer one only half of
it. This is what UDP carries in one frame of Ethernet; the kernel charges 2304 bytes.
"""
UNIX_SENDER = access_peer.Peer(UNIX)
"""Every UNIX sender, for the access rules: a datagram does not tell its user."""
_PIECES = (bytes, bytearray, memoryview)
_NO_ROOM = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))


@dataclass(frozen=True, slots=True)
class DatagramTerms:
    """How the datagrams of one service are answered. ``words``: where the service's
    counters start in the worker's row. ``networks``: what its sources may be sent; for
    UNIX sockets each name is a network of its own. ``admission``: which datagrams are
    let in at all; None for each.
    """

    name: str
    service: DatagramService
    words: int
    networks: Networks
    admission: DatagramAdmission | None = None


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """The addresses on which unpd itself listens: ports of any transport, and paths as
    the kernel writes them.
    """

    ports: Collection[int] = frozenset()
    paths: Collection[bytes] = frozenset()

    @classmethod
    def of_message(cls, ports: Iterable[int], paths: Iterable[str]) -> Self:
        """The addresses of a message that :meth:`as_message` made."""
        return cls(frozenset(ports), frozenset(map(bytes.fromhex, paths)))

    def as_message(self) -> dict[str, Any]:
        """The addresses as JSON values, the paths in hexadecimal digits. A line of the
        channel has room for those of layout.MAX_LISTENERS.
        """
        return {"ports": sorted(self.ports), "paths": [path.hex() for path in sorted(self.paths)]}


@dataclass(frozen=True, slots=True)
class DatagramSetup:
    """A datagram socket as a worker gets it. ``column``: its column on the
    scoreboard.
    """

    sock: socket.socket
    column: int
    terms: DatagramTerms
    own: OwnAddresses


@dataclass(frozen=True, slots=True)
class Sender:
    """What the address of a sender says: why it gets no answer (None: it may get one),
    its network with the bytes of the headers there (its path, without headers, if it is
    a UNIX socket), and its address, for the service and for the access
    rules.
    """

    refusal: Unanswered | None
    network: bytes
    headers: int
    peer: Peer
    source: access_peer.Peer


class DatagramSocket:
    """A datagram socket in this worker, which is a target of the poller. It stands in
    the wheel for the next patrol.
    """

    wheel_slot: "set[DatagramSocket] | None"

    def __init__(self, setup: DatagramSetup, shared: Shared, batch: AnyBatch) -> None:
        self.wheel_slot = None
        self._sock = setup.sock
        self._fd = setup.sock.fileno()
        self._word = layout.Row.LISTENER_ACCEPTED + setup.column
        self._terms = setup.terms
        self._own = setup.own
        self._shared = shared
        self._batch = batch
        self._is_unix = setup.sock.family == socket.AF_UNIX
        self._senders: dict[Hashable, Sender] = {}
        self._watched = False
        self._failures = LineLimit()
        self._errors = 0  # receives in a row that failed
        self._long_bytes = 0  # of the long answers that wait to be sent

    def watch(self) -> None:
        """Let datagrams wake this worker. If the queue holds one already, epoll says so
        at once.
        """
        shared = self._shared
        shared.poller.place(self._fd, self)
        shared.poller.epoll.register(self._fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._watched = True
        shared.wheel.put(self, shared.now + PATROL_S)

    def learn(self, own: OwnAddresses) -> None:
        """Answer none of these addresses from now on, and all others."""
        self._own = own
        self._senders.clear()

    def _ignore(self) -> None:
        if self._watched:
            self._shared.poller.epoll.unregister(self._fd)
            self._watched = False

    def come_due(self) -> None:
        """Look after a socket for which no wake-up came, or whose shutdown the master
        may have mended.
        """
        if not self._watched:
            self.watch()
            return
        self._shared.wheel.put(self, self._shared.now + PATROL_S)
        self.ready(0)

    def drain(self) -> None:
        """Stop watching, answer what waits at this moment, close the socket."""
        self._shared.wheel.remove(self)
        self._ignore()
        self._shared.poller.forget(self._fd)
        for _ in range(DRAIN_BATCHES):
            if self._serve() < BATCH:
                break
        self._sock.close()

    def ready(self, mask: int) -> None:
        """Answer a batch. If a process has shut the socket down, leave it alone until
        the next patrol: epoll would call it ready for ever.
        """
        del mask
        if not self._serve() and is_shut_down(self._sock):
            self._ignore()

    def _serve(self) -> int:
        """Receive a batch and send the answers; return how many datagrams came."""
        batch, ledger, words = self._batch, self._shared.ledger, self._terms.words
        try:
            came = batch.receive(self._sock, is_unix=self._is_unix)
        except BlockingIOError:
            return 0
        except OSError as error:
            ledger.datagram_receive_failed(words)
            self._bear(error)
            return 0
        self._errors = self._long_bytes = 0
        wall_s = time.time()
        received, answering = 0, False
        admission = self._deciding()
        for slot, (key, size, cut, to_us) in enumerate(came):
            received += size
            sender = self._senders.get(key) or self._enter(key)
            if admission is not None and not self._lets_in(admission, sender):
                ledger.unanswered(words, Unanswered.REFUSED)
                continue
            reason = Unanswered.CUT if cut else sender.refusal
            if reason is None and not (to_us or self._is_unix):
                reason = Unanswered.GROUP
            reason = reason or self._answer(slot, size, sender, wall_s)
            if reason is None:
                answering = True
            else:
                ledger.unanswered(words, reason)
        ledger.datagrams_received(self._word, words, len(came), received)
        if answering:
            sent = batch.send(self._sock)
            for number in sent.failures:
                no_room = number in _NO_ROOM
                ledger.unanswered(words, Unanswered.NO_ROOM if no_room else Unanswered.SEND_ERROR)
            ledger.datagrams_sent(words, sent.count, sent.size)
        return len(came)

    def _deciding(self) -> DatagramAdmission | None:
        """The access rules and limits that decide about each datagram of a batch; None
        while they let in every one.
        """
        admission = self._terms.admission
        return None if admission is None or admission.lets_all_in else admission

    def _lets_in(self, admission: DatagramAdmission, sender: Sender) -> bool:
        """Whether they let in a datagram."""
        now = self._shared.now
        decision = admission.admit(sender.source, now)
        if decision is not ADMITTED:
            self._shared.reception.record(self._terms, admission.peer, decision, now)
        return decision.refusal is None

    def _bear(self, error: OSError) -> None:
        """Leave the socket alone until the next patrol if its errors do not end, and
        choose the version anew: a filter may have begun to refuse a call of this one.
        """
        self._errors += 1
        if self._errors < MOST_ERRORS:
            return
        self._ignore()
        self._batch = make_batch()
        if self._errors == MOST_ERRORS:
            self._shared.log.event(
                "datagram.receive_failed", service=self._terms.name, error=repr(error)
            )

    def _enter(self, key: Hashable) -> Sender:
        """Return what is known about a sender, and keep it for its next datagram."""
        name = self._batch.name(key)
        if len(self._senders) >= MAX_SENDERS:
            self._senders.clear()
        refusal = self._refusal_of_path(name) if self._is_unix else self._refusal_of_port(name)
        network, headers = senders.network_of(name) if not self._is_unix else (name, 0)
        sender = Sender(
            refusal=refusal,
            network=network,
            headers=headers,
            peer=senders.sender_of(name),
            source=UNIX_SENDER if self._is_unix else peer_of(name),
        )
        self._senders[key] = sender
        return sender

    def _refusal_of_path(self, name: bytes) -> Unanswered | None:
        path = senders.path_of(name)
        if not path.startswith((b"/", b"\0")):
            return Unanswered.NO_SENDER
        return Unanswered.OWN_PORT if path in self._own.paths else None

    def _refusal_of_port(self, name: bytes) -> Unanswered | None:
        port = senders.port_of(name)
        if port < LOWEST_PORT:
            return Unanswered.LOW_PORT
        if port in self._own.ports:
            return Unanswered.OWN_PORT
        return Unanswered.GROUP if senders.is_group(name) else None

    def _answer(self, slot: int, size: int, sender: Sender, wall_s: float) -> Unanswered | None:
        """Let the service answer the datagram in ``slot``; None if an answer waits to
        be sent, else why there is none.
        """
        now, networks = self._shared.now, self._terms.networks
        network = networks.received(sender.network, self._counted(sender, size), now)
        if (refusal := networks.refusal(network, now)) is not None:
            return refusal
        try:
            return self._ask_service(slot, sender, network, wall_s)
        except BaseException as error:  # noqa: BLE001 - the top of a datagram
            self._report(error)
            return Unanswered.ERROR

    def _ask_service(
        self, slot: int, sender: Sender, network: Network, wall_s: float
    ) -> Unanswered | None:
        piece = self._batch.piece(slot)
        reply = self._terms.service.answer(piece, sender.peer, wall_s)
        if reply is None:
            return Unanswered.NO_ANSWER
        if callable(reply):
            reply = reply(self._allowed(sender, len(piece)))
        if not isinstance(reply, _PIECES):
            raise TypeError(f"answer() returned {type(reply).__name__}, not bytes")
        if len(reply) > MAX_DATAGRAM_BYTES:
            return Unanswered.SEND_ERROR
        if len(reply) > SHORT_BYTES and not self._has_room(len(reply)):
            return Unanswered.NO_ROOM
        if not self._terms.networks.spend(network, self._counted(sender, len(reply))):
            return Unanswered.AMPLIFICATION
        self._batch.answer(slot, reply)
        return None

    def _counted(self, sender: Sender, size: int) -> int:
        """How many bytes of a datagram the amplification counts: over a UNIX socket an
        answer may have any length.
        """
        return 0 if self._is_unix else sender.headers + size

    def _allowed(self, sender: Sender, size: int) -> int:
        """How many bytes the answer to a datagram of ``size`` bytes may have."""
        if self._is_unix:
            return MAX_DATAGRAM_BYTES
        allowed = self._terms.networks.allowed(sender.headers + size) - sender.headers
        return min(allowed, MAX_DATAGRAM_BYTES)

    def _has_room(self, size: int) -> bool:
        """Whether a long answer may be sent. Clients that read nothing, and addresses
        that no host has, would otherwise keep all others from their answers.
        """
        if self._long_bytes >= room_for_long(self._sock):
            return False
        self._long_bytes += size
        return True

    def _report(self, error: BaseException) -> None:
        """Log a failure of the service, unless the last one was just now: each datagram
        could cause one.
        """
        suppressed = self._failures.take(self._shared.now)
        if suppressed is not None:
            self._shared.log.event(
                "datagram.failed",
                service=self._terms.name,
                error=error_text(error),
                suppressed=suppressed,
                trace=trace_of(error),
            )
