"""All open listeners of the master, by key.

A listener is opened once and stays open over reloads. Its configured address identifies
it, and it is closed when no configuration has that any more. A reload changes the
listeners in two halves. :meth:`Listeners.prepare` opens all listeners that the new
configuration adds, or none. :meth:`Listeners.adopt` closes the listeners that the new
configuration lacks, applies its options to the others, and stores the new ones. A
reload that fails before the second half has changed nothing.

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
    """The open listeners. ``sources`` opens new ones."""

    def __init__(
        self, sources: ListenerSources, opened: Mapping[str, OpenListener] | None = None
    ) -> None:
        self.sources = sources
        self.opened: dict[str, OpenListener] = dict(opened or {})
        self._broken: set[str] = set()

    def prepare(self, wanted_listeners: Iterable[WantedListener]) -> "Listeners":
        """Return the wanted listeners, those that are open already and the added ones.
        If one cannot be opened, close the added ones again.

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
        """Become ``new``: close the listeners that it lacks, apply its options to the
        others, and store all.
        """
        for key, listener in self.opened.items():
            if key not in new.opened:
                listener.end(self.sources.store)
            elif listener.wanted.options != new.opened[key].wanted.options:
                listener.retune(new.opened[key].wanted.options)
        self.opened = new.opened
        self.store()

    def store(self) -> None:
        """Store the listeners that are not in the descriptor store yet. Called once a
        second, because the service manager may have been out of reach.
        """
        self.opened = {
            key: listener.stored_in(self.sources.store) for key, listener in self.opened.items()
        }

    def mend(self) -> Iterator[tuple[OpenListener, str]]:
        """Listen again on listeners that another process shut down, with ``ss --kill``
        or by shutdown(2) on a shared socket. Yield each mended listener with "", and
        each other one with the reason, but only once.
        """
        opened = self.opened.items()
        shut = {key: one for key, one in opened if not sockets.is_listening(one.sock)}
        self._broken &= shut.keys()
        for key, listener in shut.items():
            reason = _mend(listener)
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
        """The listeners of one service, or of METRICS."""
        return [listener for listener in self.opened.values() if listener.wanted.service == service]

    def close(self) -> None:
        """Close all listeners, because the daemon ends."""
        while self.opened:
            self.opened.popitem()[1].close()


def _refuse_other_ipv6_only(listener: OpenListener, wanted: WantedListener) -> None:
    """AddressError if ipv6_only differs: it cannot change after bind(2) (ipv6(7))."""
    if listener.wanted.options.ipv6_only != wanted.options.ipv6_only and not listener.passed:
        raise AddressError(
            f"service {wanted.service}: ipv6_only of {wanted.address.text} cannot be changed"
            " while it is open: restart unpd"
        )


def _mend(listener: OpenListener) -> str:
    """Listen again; return "", or the reason why that fails. A UNIX socket stays shut:
    a new one would need a new file, which clients of the old one do not see.
    """
    if isinstance(listener.address, UnixAddress):
        return "a UNIX socket cannot listen again: restart unpd"
    try:
        listener.retune(listener.wanted.options)
    except OSError as error:
        return str(error.strerror)
    return ""
