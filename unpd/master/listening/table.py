"""All open listeners of the master, by key.

A listener is opened once and stays open over reloads, identified by its address as
configured; it is closed when no configuration has it any more. A change comes in two
halves: :meth:`Listeners.prepare` opens what a new configuration adds, all of it or
nothing, and :meth:`Listeners.adopt` closes what it lacks, tunes what stays and stores
what is new. Until then a reload that fails has changed nothing.

Called by boot, the performers and the shell's sweep; calls
:mod:`unpd.master.listening.sources` to open listeners.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from unpd.config.addresses import UnixAddress
from unpd.errors import AddressError, UnpdError
from unpd.kernel import sockets
from unpd.master.listening.listener import OpenListener, WantedListener
from unpd.master.listening.sources import ListenerSources


class Listeners:
    """The open listeners; ``sources`` opens others."""

    def __init__(
        self, sources: ListenerSources, opened: Mapping[str, OpenListener] | None = None
    ) -> None:
        self.sources = sources
        self.opened: dict[str, OpenListener] = dict(opened or {})
        self._broken: set[str] = set()

    def prepare(self, wanted_listeners: Iterable[WantedListener]) -> "Listeners":
        """Return the wanted listeners: those that are open already, and the added ones,
        opened now. After the first failure the added ones are closed again.

        AddressError (in use, missing) or PrivilegeError in one sentence that names the
        service and the address.
        """
        found: dict[str, OpenListener] = {}
        added: list[OpenListener] = []
        try:
            for wanted in wanted_listeners:
                listener = self.opened.get(wanted.key)
                if listener is None:
                    listener = self.sources.open(wanted)
                    added.append(listener)
                _refuse_other_ipv6_only(listener, wanted)
                found[wanted.key] = replace(listener, wanted=wanted)
        except UnpdError:
            for listener in added:
                listener.close()
            raise
        return Listeners(self.sources, found)

    def adopt(self, new: "Listeners") -> None:
        """Become ``new``: close what it lacks, give what stays its new options, store
        what it has.
        """
        for key, listener in self.opened.items():
            if key not in new.opened:
                listener.end(self.sources.store)
            elif listener.wanted.options != new.opened[key].wanted.options:
                listener.retune(new.opened[key].wanted.options)
        self.opened = new.opened
        self.store()

    def store(self) -> None:
        """Store what is not in the descriptor store yet. Called again once a second,
        for the service manager may have been out of reach.
        """
        self.opened = {
            key: listener.stored_in(self.sources.store) for key, listener in self.opened.items()
        }

    def mend(self) -> Iterator[tuple[OpenListener, str]]:
        """Listen again where another process ended that, with ``ss --kill`` or by
        shutdown(2) on a socket that it shares. Yield each such listener with "", or
        with the reason why it cannot be mended; that only once.
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
        """The listeners that only ``new`` has."""
        return [listener for key, listener in new.opened.items() if key not in self.opened]

    def drop(self, new: "Listeners") -> None:
        """Close the listeners that only ``new`` has: its configuration was refused."""
        for listener in self.added_by(new):
            listener.close()

    def of(self, service: str) -> list[OpenListener]:
        """The listeners of one service (or METRICS)."""
        return [listener for listener in self.opened.values() if listener.wanted.service == service]

    def close(self) -> None:
        """Close all, because the daemon ends."""
        while self.opened:
            self.opened.popitem()[1].close()


def _refuse_other_ipv6_only(listener: OpenListener, wanted: WantedListener) -> None:
    """IPV6_V6ONLY cannot change after bind(2) (ipv6(7))."""
    if listener.wanted.options.ipv6_only != wanted.options.ipv6_only and not listener.passed:
        raise AddressError(
            f"service {wanted.service}: ipv6_only of {wanted.address.text} cannot be changed"
            " while it is open: restart unpd"
        )


def _mended(listener: OpenListener) -> str:
    """Listen again; return "" or the reason why not. A new UNIX socket would need a new
    file, which clients of the old one do not see.
    """
    if isinstance(listener.address, UnixAddress):
        return "a UNIX socket cannot listen again: restart unpd"
    try:
        listener.retune(listener.wanted.options)
    except OSError as error:
        return str(error.strerror)
    return ""
