"""The offers of the service manager to the process that it started: a notification
socket, a watchdog, passed descriptors, and a store of descriptors that outlives the
daemon.

The command line reads them once, at the start, from the environment (sd_notify(3),
sd_watchdog_enabled(3), sd_listen_fds(3)), and takes them out of it, so that no child
inherits them. A daemon that no service manager started has an empty :class:`Offers`.

Calls :mod:`unpd.kernel.notify` and :mod:`unpd.kernel.activation`. Errors: UnpdError for
variables that contradict each other.
"""

import contextlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Self

from unpd.errors import UnpdError
from unpd.kernel import activation, notify
from unpd.kernel.activation import Passed
from unpd.kernel.notify import NotifySocket

BARRIER_S = 5.0
"""How long the service manager may take to close the descriptors it was asked to."""


@dataclass(frozen=True, slots=True)
class DescriptorStore:
    """The descriptor store of the unit (FileDescriptorStoreMax= of systemd.service(5)).
    ``notify`` is None if the unit has no store.
    """

    notify: NotifySocket | None = None

    def add(self, name: str, fd: int) -> bool:
        """Store a duplicate of ``fd`` as ``name``. True if the service manager took the
        message. It answers nothing: the unit has to give the store enough room.
        """
        return self.notify is not None and self.notify.store(name, fd)

    def remove(self, name: str) -> bool:
        """Ask the service manager to close the descriptors stored as ``name``. True if
        it took the message.
        """
        return self.notify is not None and self.notify.remove(name)

    def wait(self) -> None:
        """Wait at most BARRIER_S until the service manager has closed the removed
        descriptors, so that their addresses are free.
        """
        if self.notify is not None:
            with contextlib.suppress(OSError):
                self.notify.barrier(BARRIER_S)


@dataclass(frozen=True, slots=True)
class Offers:
    """The offers. ``watchdog_s``: how often the service manager wants a sign of life,
    in seconds, or 0.0. ``passed``: the passed descriptors, stored ones among them.
    """

    notify: NotifySocket | None = None
    watchdog_s: float = 0.0
    store: DescriptorStore = DescriptorStore()
    passed: tuple[Passed, ...] = ()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Take the offers out of ``environ``. UnpdError if its variables contradict
        each other.

        FDSTORE is the size of the descriptor store. systemd sets it since version 254;
        the packaged unit sets it for older versions. Without it nothing is stored.
        """
        socket = NotifySocket.from_environment(environ)
        size = environ.pop("FDSTORE", "")
        watchdog_s = notify.watchdog_s(environ)
        try:
            passed = activation.take_passed(environ)
        except (OSError, ValueError) as error:
            raise UnpdError(
                f"the service manager's variables for passed descriptors are wrong: {error}"
            ) from error
        stores = size.isascii() and size.isdecimal() and int(size[:9]) > 0
        return cls(
            notify=socket,
            watchdog_s=watchdog_s if socket else 0.0,
            store=DescriptorStore(socket if stores else None),
            passed=passed,
        )

    def send(self, *assignments: str, once: bool = False) -> bool:
        """Send ``assignments`` to the service manager; True if it took them. ``once``:
        no later message repeats them, so it is worth waiting a moment for room.
        """
        return self.notify is not None and self.notify.send(*assignments, wait=once)
