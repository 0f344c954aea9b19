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
from unpd.master.listener import Open
from unpd.master.supply import Supply


class Listeners:
    """All open listeners by key."""

    def __init__(self, supply: Supply, opened: Mapping[str, Open] | None = None) -> None:
        self.supply = supply
        self.opened: dict[str, Open] = dict(opened or {})
        self._broken: set[str] = set()

    def prepare(self, config: Config) -> "Listeners":
        """The listeners of ``config``: those that are open already, and the added ones
        opened now. On the first failure those are closed again.

        AddressError (in use, missing) or PrivilegeError in one sentence that names the
        service and the address.
        """
        found: dict[str, Open] = {}
        added: list[Open] = []
        try:
            for wish in self.supply.wishes(config):
                there = self.opened.get(wish.key)
                if there is None:
                    there = self.supply.open(wish)
                    added.append(there)
                elif there.wish.options.ipv6_only != wish.options.ipv6_only and not there.passed:
                    raise AddressError(
                        f"service {wish.service}: ipv6_only of {wish.address.text} cannot be"
                        " changed while it is open: restart unpd"
                    )
                found[wish.key] = replace(there, wish=wish)
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
            elif listener.wish.options != new.opened[key].wish.options:
                listener.retune(new.opened[key].wish.options)
        self.opened = new.opened
        self.keep()

    def keep(self) -> None:
        """Leave in the store what is not there yet; to be tried again where the service
        manager could not be told.
        """
        self.opened = {
            key: listener.keep(self.supply.store) for key, listener in self.opened.items()
        }

    def mend(self) -> Iterator[tuple[Open, str]]:
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

    def added_by(self, new: "Listeners") -> list[Open]:
        """What ``new`` has and this has not."""
        return [listener for key, listener in new.opened.items() if key not in self.opened]

    def drop(self, new: "Listeners") -> None:
        """Forget ``new``: close what it added."""
        for listener in self.added_by(new):
            listener.close()

    def of(self, service: str) -> list[Open]:
        """The listeners of one service (or METRICS)."""
        return [listener for listener in self.opened.values() if listener.wish.service == service]

    def close(self) -> None:
        """Close all: the daemon ends."""
        while self.opened:
            self.opened.popitem()[1].close()


def _mended(listener: Open) -> str:
    if isinstance(listener.address, UnixAddress):
        return "a UNIX socket cannot listen again: restart unpd"
    try:
        listener.retune(listener.wish.options)
    except OSError as error:
        return str(error.strerror)
    return ""
