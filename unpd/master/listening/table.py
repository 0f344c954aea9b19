"""The master's listeners: opened once, kept over reloads by their address as
configured, closed when no configuration has them any more.

A change comes in two halves. :meth:`Listeners.prepare` opens what a new configuration
adds, all or none; :meth:`Listeners.adopt` closes what it no longer has, tunes what
stays, and leaves what is new in the service manager's store. Until then a failed reload
has changed nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from unpd.config.addresses import UnixAddress
from unpd.config.schema import Config
from unpd.errors import AddressError, UnpdError
from unpd.kernel import sockets
from unpd.master.listening.listener import OpenListener
from unpd.master.listening.sources import ListenerSources


class Listeners:
    """All open listeners by key."""

    def __init__(
        self, supply: ListenerSources, opened: Mapping[str, OpenListener] | None = None
    ) -> None:
        self.supply = supply
        self.opened: dict[str, OpenListener] = dict(opened or {})
        self._broken: set[str] = set()

    def prepare(self, config: Config) -> "Listeners":
        """The listeners of ``config``: those that are open already, and the added ones
        opened now. On the first failure those are closed again.

        AddressError (in use, missing) or PrivilegeError in one sentence that names the
        service and the address.
        """
        found: dict[str, OpenListener] = {}
        added: list[OpenListener] = []
        try:
            for wanted in self.supply.wanted_listeners(config):
                there = self.opened.get(wanted.key)
                if there is None:
                    there = self.supply.open(wanted)
                    added.append(there)
                elif (
                    there.wanted.options.ipv6_only != wanted.options.ipv6_only and not there.passed
                ):
                    raise AddressError(
                        f"service {wanted.service}: ipv6_only of {wanted.address.text} cannot be"
                        " changed while it is open: restart unpd"
                    )
                found[wanted.key] = replace(there, wanted=wanted)
        except UnpdError:
            for listener in added:
                listener.close()
            raise
        return Listeners(self.supply, found)

    def adopt(self, new: "Listeners") -> None:
        """Become ``new``: close what it lacks, give what stays its new options, keep
        what it has.
        """
        for key, listener in self.opened.items():
            if key not in new.opened:
                listener.end(self.supply.store)
            elif listener.wanted.options != new.opened[key].wanted.options:
                listener.retune(new.opened[key].wanted.options)
        self.opened = new.opened
        self.keep()

    def keep(self) -> None:
        """Leave in the store what is not there yet; to be tried again where the service
        manager could not be told.
        """
        self.opened = {
            key: listener.keep(self.supply.store) for key, listener in self.opened.items()
        }

    def mend(self) -> Iterator[tuple[OpenListener, str]]:
        """Listen again where somebody has ended that, with ``ss --kill`` or by
        shutdown(2) on a socket that he shares: each such listener, and why it cannot be
        mended or "".

        One that cannot be is told once. A UNIX listener cannot: what leads to it is its
        file, and another socket would be another file.
        """
        ended = {
            key: listener
            for key, listener in self.opened.items()
            if not sockets.is_listening(listener.sock)
        }
        self._broken &= ended.keys()
        for key, listener in ended.items():
            reason = _mended(listener)
            if key not in self._broken:
                yield listener, reason
            if reason:
                self._broken.add(key)

    def added_by(self, new: "Listeners") -> list[OpenListener]:
        """What ``new`` has and this has not."""
        return [listener for key, listener in new.opened.items() if key not in self.opened]

    def drop(self, new: "Listeners") -> None:
        """Forget ``new``: close what it added."""
        for listener in self.added_by(new):
            listener.close()

    def of(self, service: str) -> list[OpenListener]:
        """The listeners of one service (or METRICS)."""
        return [listener for listener in self.opened.values() if listener.wanted.service == service]

    def close(self) -> None:
        """Close all: the daemon ends."""
        while self.opened:
            self.opened.popitem()[1].close()


def _mended(listener: OpenListener) -> str:
    if isinstance(listener.address, UnixAddress):
        return "a UNIX socket cannot listen again: restart unpd"
    try:
        listener.retune(listener.wanted.options)
    except OSError as error:
        return str(error.strerror)
    return ""
