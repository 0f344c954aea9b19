"""A dial: finds a target for one client. It tries one address after the other until a
connection is made, and tells the session.

The order is that of :mod:`unpd.worker.redirect.rotation`. Each connect has
``connect_timeout_s``, and so has the wait for the first addresses of a name. A UNIX
listener whose queue is full is tried again, after all other targets, until
``connect_timeout_s`` are over: connect(2) says EAGAIN, and no event tells when the
queue has room.

Owns the descriptor of the connect that is under way. The session makes it, calls
:meth:`Dial.come_due`, and owns the connection from :meth:`Owner.reached` on. The engine
calls ``ready``. Raises nothing of its own.
"""

import errno
import math
import os
import select
from typing import Protocol

from unpd.kernel.outgoing import SocketAddress, begin_connect, outcome
from unpd.worker.event.shared import Shared
from unpd.worker.redirect.targets import Targets

AGAIN_S = 0.05
"""When a UNIX listener whose queue was full is tried again."""


class Owner(Protocol):
    """The session that needs a target."""

    shared: Shared

    def reached(self, fd: int, target: int) -> None:
        """Take the connection to a target."""

    def unreached(self) -> None:
        """Go on without a target: none could be reached."""

    def schedule(self) -> None:
        """Compute the next deadline again."""

    def fail(self, error: BaseException) -> None:
        """End because of a fault of ours."""


class Dial:
    """The search for a target. ``due_at``: when to call :meth:`come_due`; inf while
    nothing is awaited.
    """

    def __init__(self, targets: Targets, owner: Owner) -> None:
        self.due_at = math.inf
        self._targets = targets
        self._owner = owner
        self._shared = owner.shared
        self._order = targets.order(self._shared.now)
        self._target = -1  # the one that is being tried
        self._addresses: list[SocketAddress] = []  # those of its that are still to try
        self._address: SocketAddress | None = None  # the one that is being tried
        self._fd = -1  # of the connect that is under way
        self._awaits_name = False
        self._full: list[int] = []  # the targets whose queues were full
        self._full_until = self._shared.now + targets.connect_timeout_s

    def go_on(self) -> None:
        """Try one address after the other until something has to be awaited, or the
        dial is over.
        """
        while True:
            if self._addresses:
                if self._connect(self._addresses.pop(0)):
                    return
            elif self._order:
                self._target = self._order.pop(0)
                if self._look_up():
                    return
            else:
                self._run_out()
                return

    def lost(self, number: int) -> None:
        """Go on, because the connection that was reached broke with the errno
        ``number`` before any byte was passed on: its target was closing down.
        """
        self._failed(number)
        self.go_on()

    def close(self) -> None:
        """Stop: the client has ended."""
        self._stop_connect()
        self._stop_waiting()

    # --- what was awaited -------------------------------------------------------------

    def ready(self, mask: int) -> None:
        """Take the outcome of the connect."""
        try:
            number = outcome(self._fd)
            if number == errno.EINPROGRESS:
                return  # the event is of the socket that had this descriptor before
            fd, self._fd = self._fd, -1
            self._shared.poller.epoll.unregister(fd)
            self._shared.poller.forget(fd)
            if number:
                os.close(fd)
                self.lost(number)
            else:
                self._reached(fd)
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self._owner.fail(error)

    def come_due(self) -> None:
        """Give up what was awaited, and go on."""
        self.due_at = math.inf
        if self._awaits_name:
            self._stop_waiting()
            self._targets.unresolved(self._target, self._shared)
        elif self._fd >= 0:
            self._stop_connect()
            self._failed(errno.ETIMEDOUT)
        self.go_on()

    def _answered(self) -> None:
        """Go on with the addresses of a name, if it has any."""
        try:
            self._awaits_name = False
            self.due_at = math.inf
            if not self._look_up():
                self.go_on()
        except BaseException as error:  # noqa: BLE001 - the top of a connection
            self._owner.fail(error)

    # --- steps ------------------------------------------------------------------------

    def _look_up(self) -> bool:
        """Take the addresses of the target. True if they have to be awaited."""
        source = self._targets.addresses(self._target)
        found = source.known(self._shared.now)
        if found is None:
            self._awaits_name = True
            source.wait(self._answered)
            self._await(self._targets.connect_timeout_s)
        elif found:
            self._addresses = list(found)
        else:
            self._targets.unresolved(self._target, self._shared)
        return found is None

    def _connect(self, address: SocketAddress) -> bool:
        """Connect to an address. False if that has failed already."""
        self._address = address
        try:
            fd, is_made = begin_connect(address, self._targets.connect)
        except BlockingIOError:
            self._full.append(self._target)
            return False
        except OSError as error:
            self._failed(error.errno or errno.EINVAL)
            return False
        if is_made:
            self._reached(fd)
        else:
            self._fd = fd
            self._shared.poller.place(fd, self)
            self._shared.poller.epoll.register(fd, select.EPOLLOUT)
            self._await(self._targets.connect_timeout_s)
        return True

    def _reached(self, fd: int) -> None:
        self.due_at = math.inf
        self._targets.connected(self._target, self._shared)
        self._owner.reached(fd, self._target)

    def _failed(self, number: int) -> None:
        """Count the connect that failed. Leave the target out if it was the last."""
        self._targets.refused(self._target, number, self._shared)
        if self._address is not None:
            self._targets.addresses(self._target).avoid(self._address, self._shared.now)
        if not self._addresses:
            self._targets.failed(self._target, number, self._shared)

    def _run_out(self) -> None:
        """No target is left. One whose queue was full may have room in a moment."""
        if self._full and self._shared.now < self._full_until:
            self._order, self._full = self._full, []
            self._await(AGAIN_S)
            return
        for target in self._full:
            self._targets.refused(target, errno.EAGAIN, self._shared)
            self._targets.failed(target, errno.EAGAIN, self._shared)
        self._owner.unreached()

    # --- parts ------------------------------------------------------------------------

    def _await(self, longest_s: float) -> None:
        self.due_at = self._shared.now + longest_s
        self._owner.schedule()

    def _stop_connect(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._shared.poller.forget(fd)
            os.close(fd)

    def _stop_waiting(self) -> None:
        if self._awaits_name:
            self._awaits_name = False
            self._targets.addresses(self._target).wait_no_more(self._answered)
