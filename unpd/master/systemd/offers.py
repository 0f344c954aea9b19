"""What the service manager offers to the process that it started: somebody to tell, a
watchdog, descriptors that it passes, and a store that outlives us.

Read once, at the start, from the environment (sd_notify(3), sd_watchdog_enabled(3),
sd_listen_fds(3)), and taken out of it. A daemon that nobody supervises has none of it.
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
"""How long the service manager may take to close what we asked it to."""


@dataclass(frozen=True, slots=True)
class DescriptorStore:
    """The descriptor store of our unit (FileDescriptorStoreMax= of systemd.service(5));
    ``notify`` None where there is none.
    """

    notify: NotifySocket | None = None

    def keep(self, name: str, fd: int) -> bool:
        """Leave a duplicate of ``fd`` as ``name``; whether the service manager was told
        to. That it has room is the unit's promise (FDSTORE).
        """
        return self.notify is not None and self.notify.store(name, fd)

    def forget(self, name: str) -> bool:
        """Have what is stored as ``name`` closed; whether the service manager was told
        to.
        """
        return self.notify is not None and self.notify.remove(name)

    def settle(self) -> None:
        """Wait until what was to be forgotten is closed, so that its address is free;
        not for long.
        """
        if self.notify is not None:
            with contextlib.suppress(OSError):
                self.notify.barrier(BARRIER_S)


@dataclass(frozen=True, slots=True)
class Offers:
    """The offers. ``watchdog_s``: how often it wants a sign of life, in seconds; 0.0 if
    it wants none. ``passed``: the descriptors, those of the store among them.
    """

    notify: NotifySocket | None = None
    watchdog_s: float = 0.0
    store: DescriptorStore = DescriptorStore()
    passed: tuple[Passed, ...] = ()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """What ``environ`` tells. UnpdError where it contradicts itself.

        FDSTORE is the size of the descriptor store; systemd sets it since version 254,
        for older ones the unit does. Without a store a listener that we leave behind
        would be nobody's.
        """
        socket = NotifySocket.from_environment(environ)
        size = environ.pop("FDSTORE", "")
        watchdog_s = notify.watchdog_s(environ)
        try:
            passed = activation.take_passed(environ)
        except (OSError, ValueError) as error:
            raise UnpdError(
                "what the service manager says about the descriptors that it passes cannot be"
                f" true: {error}"
            ) from error
        stores = size.isascii() and size.isdecimal() and int(size[:9]) > 0
        return cls(
            socket,
            watchdog_s if socket else 0.0,
            DescriptorStore(socket if stores else None),
            passed,
        )

    def say(self, *assignments: str, once: bool = False) -> bool:
        """Tell the service manager, if there is one; whether it heard. ``once``: this
        will not be said again.
        """
        return self.notify is not None and self.notify.send(*assignments, wait=once)
