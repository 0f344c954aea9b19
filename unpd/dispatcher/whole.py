"""A socket that programs get whole: a listener or a datagram socket from which they
themselves take the clients, as after inetd's ``wait``.

With ``wait`` one program at a time has it. unpd starts that when something is there to
take, and watches the socket again when the program has ended. With ``keep`` so many
programs have it from the start. A program that ends within SHORT_S, and has left
something to take, or was to be kept, is started again after a pause that doubles.

Programs of launchers before a reload still have the socket: ``wait`` waits for their
end, too. Only at the moment of a reload, while the launcher before it has not stopped
yet, may each of both start one.

To the dispatcher this is a listener whose connections are duplicates of the socket
itself. Owns the socket in this process. Made by
:mod:`unpd.master.children.launching`. Calls nothing but the kernel, and raises nothing.

Known gap: the pause is one for all programs that are kept on a socket. While one of
them ends again and again, another that ends waits as long.
"""

import math
import os
import select
from collections.abc import Mapping, Sequence

from unpd.board import layout
from unpd.board.sessions import SessionTable
from unpd.worker.accepting import Accepted, AcceptFailure, ListenerSetup
from unpd.worker.terms import Terms

SHORT_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
LOOK_S = 0.1
"""How often to ask for the programs of earlier generations."""


class WholeSocket:
    """``most``: how many programs have it at a time. ``unasked``: they are started
    without anything to take. ``running``: how many programs have each socket, by its
    ``word``; the launcher counts them. ``earlier``: the tables of the
    launchers of earlier generations.
    """

    def __init__(
        self,
        setup: ListenerSetup,
        terms: Terms,
        running: Mapping[int, int],
        keep: int,
        earlier: Sequence[SessionTable] = (),
    ) -> None:
        self.sock = setup.sock
        self.fd = setup.sock.fileno()
        self.terms = terms
        self.text = setup.text
        self.word = layout.Row.LISTENER_ACCEPTED + setup.column
        self.most = keep or 1
        self.unasked = keep > 0
        self.resume_at: float | None = None
        self._running = running
        self._earlier = earlier
        self._counted = 0
        self._started_at = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def resume(self, now: float) -> None:
        """See whether a program may be started, or when."""
        before, self._counted = self._counted, self._running.get(self.word, 0)
        if self._counted < before:
            self.resume_at = self._again_at(now)
        elif self._counted >= self.most:
            self.resume_at = math.inf
        elif self.resume_at is not None and self.resume_at <= now:
            self.resume_at = None
        if self.resume_at is None and self._earlier_have_it():
            self.resume_at = now + LOOK_S

    def _earlier_have_it(self) -> bool:
        """Whether a program of an earlier generation has the socket. No signal tells
        its end.
        """
        return not self.unasked and any(each.has_program_on(self.word) for each in self._earlier)

    def _again_at(self, now: float) -> float | None:
        """A program has ended: when to start the next, None for at once."""
        is_short = now - self._started_at < SHORT_S
        if not is_short or not (self.unasked or self._has_work()):
            self._pause_s = FIRST_PAUSE_S
            return None
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return now + pause_s

    def _has_work(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def rest(self, now: float) -> None:
        """Pause for a moment, because the service is at a limit."""
        self.resume_at = now + FIRST_PAUSE_S

    def accept(self, limit: int, now: float) -> tuple[list[Accepted], AcceptFailure | None]:
        """The socket itself, for one more program; nothing if enough have it."""
        del limit
        if self.resume_at is not None or self._running.get(self.word, 0) >= self.most:
            return [], None
        try:
            fd = os.dup(self.fd)
        except OSError as error:  # no free descriptor
            self.resume_at = now + self._pause_s
            return [], AcceptFailure(error.errno or 0, paused=True)
        self._started_at = now
        self._counted = self._running.get(self.word, 0) + 1  # it may end before the next look
        return [(fd, b"")], None

    def ended(self, now: float) -> None:
        """Another process shut the socket down: the master may repair it meanwhile."""
        self.resume_at = now + SHORT_S

    def queued(self) -> int:
        """Nothing is taken out of it here."""
        return 0

    def waiting(self) -> int:
        """How many clients wait at least: 1 if anything is there to take."""
        return int(self._has_work())
