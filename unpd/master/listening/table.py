"""All open listeners of the master, by key.

A listener is opened once and stays open over reloads. Its configured address identifies
it, and it is closed when no configuration has that any more. A reload changes the
listeners in two halves. :meth:`Listeners.prepare` opens all listeners that the new
configuration adds, or none. :meth:`Listeners.adopt` closes the listeners that the new
configuration lacks, applies its options to the others, and stores the new ones. A
reload that fails before the second half has changed nothing. A listener that is not
required (:attr:`WantedListener.is_required`) may be absent: where it cannot be opened,
the daemon goes on without it, and :meth:`Listeners.mend` tries again.

:meth:`Listeners.mend` looks after the listeners that no client reaches. A listener that
refuses its new options in :meth:`Listeners.adopt` becomes one of them: the reload goes
through, and the fault stands until a later repair.

Called by boot, the performers and :mod:`unpd.master.mending`; calls
:mod:`unpd.master.listening.sources` to open listeners. Errors: AddressError and
PrivilegeError of :meth:`Listeners.prepare`.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from unpd.config.addresses import InternetAddress, SystemdAddress, TcpAddress
from unpd.errors import AddressError, UnpdError
from unpd.master.listening.closed import ClosedListeners, StillHeldError
from unpd.master.listening.conflicts import refuse_conflict
from unpd.master.listening.listener import OpenListener, WantedListener
from unpd.master.listening.opening import (
    REFUSALS,
    free_port,
    open_anew,
    reason_of,
    refusal,
)
from unpd.master.listening.repair import (
    ABSENT,
    KEEPS_CHANGING,
    NOT_TUNED,
    Ailment,
    Outcome,
    Remedy,
    Repair,
    ailment,
)
from unpd.master.listening.sources import ListenerSources

RENEWAL_PAUSE_S = 30.0
"""How long after one renewal the same listener is not opened anew, and how long after
one request for a reload there is no other. A renewal replaces children: a user who may
remove the file of a UNIX listener must not be able to do that every second.
"""
_PAUSE = f"{RENEWAL_PAUSE_S:g} s"
CLOSE_LOOKS = 64
"""How many listeners one sweep compares with their state at the opening."""


_Add = Callable[[WantedListener, Iterable[OpenListener], Iterable[str]], OpenListener]
"""Makes an added listener: beside which others, of which these keys are kept."""


class Listeners:
    """The open listeners. ``sources`` opens new ones. ``absent``: those that are not
    required, and could not be opened yet.
    """

    def __init__(
        self,
        sources: ListenerSources,
        opened: Mapping[str, OpenListener] | None = None,
        absent: Mapping[str, WantedListener] | None = None,
    ) -> None:
        self.sources = sources
        self.opened: dict[str, OpenListener] = dict(opened or {})
        self.absent: dict[str, WantedListener] = dict(absent or {})
        self._closed = ClosedListeners()
        self._broken: dict[str, str] = {}  # by key, the reason that was reported last
        self._untuned: set[str] = set()  # keys of those that refused their new options
        self._unserved: set[str] = set()  # keys of renewed ones that the children lack
        self._renewed_at: dict[str, float] = {}
        self._changed_at: dict[str, float] = {}  # by another process, and restored
        self._changing_until: dict[str, float] = {}  # how long that stands as a fault
        self._look_next = 0
        self._ask_at = 0.0
        self._pauses = False  # the reload that was asked for did not help

    def prepare(self, wanted_listeners: Iterable[WantedListener]) -> "Listeners":
        """Return the wanted listeners, those that are open already and the added ones.
        If one that is required cannot be opened, close the added ones again.

        AddressError (in use, missing) or PrivilegeError in one sentence that names the
        service and the address; StillHeldError if a worker that drains has the address.
        """
        return self._with(wanted_listeners, self._open)

    def plan(self, wanted_listeners: Iterable[WantedListener]) -> "Listeners":
        """Return the wanted listeners as :meth:`prepare` does, but open none: the added
        ones are sockets that are bound nowhere. The caller closes these. AddressError
        if an open listener of unpd has one of their addresses, and for a refusal by the
        system, such as that it has no descriptor left.
        """
        return self._with(wanted_listeners, self._plan)

    def _with(self, wanted_listeners: Iterable[WantedListener], add: _Add) -> "Listeners":
        all_wanted = tuple(wanted_listeners)
        kept = {wanted.key for wanted in all_wanted}
        found: dict[str, OpenListener] = {}
        absent: dict[str, WantedListener] = {}
        added: list[OpenListener] = []
        try:
            # The passed ones are open in any case: another one may conflict with them.
            for wanted in sorted(all_wanted, key=_is_ours):
                listener = self.opened.get(wanted.key)
                if listener is None:
                    try:
                        listener = add(wanted, (self.opened | found).values(), kept)
                    except UnpdError as error:
                        # A worker of ours gives the address free: the reload waits.
                        if wanted.is_required or isinstance(error, StillHeldError):
                            raise
                        absent[wanted.key] = wanted
                        continue
                    added.append(listener)
                _refuse_other_ipv6_only(listener, wanted)
                found[wanted.key] = replace(listener, wanted=wanted)
        except BaseException:
            for listener in added:
                listener.close()
            raise
        ordered = {wanted.key: found[wanted.key] for wanted in all_wanted if wanted.key in found}
        return Listeners(self.sources, ordered, absent)

    def _plan(
        self, wanted: WantedListener, opened: Iterable[OpenListener], kept: Iterable[str]
    ) -> OpenListener:
        """Plan an added listener. Other planned ones are no conflict: they have no
        socket that could tell it, and the load has compared them. One that is absent
        stays so, as far as a plan can tell.
        """
        del opened
        if wanted.key in self.absent and not wanted.is_required:
            raise AddressError(ABSENT)
        try:
            refuse_conflict(wanted, self.opened.values(), kept)
            return self.sources.plan(wanted)
        except REFUSALS as error:
            raise refusal(wanted, error) from error

    def _open(
        self, wanted: WantedListener, opened: Iterable[OpenListener], kept: Iterable[str]
    ) -> OpenListener:
        """Open an added listener. A fault in the search for conflicts, too, refuses the
        configuration: the input of a reload must not end the master.
        """
        try:
            refuse_conflict(wanted, opened, kept)
            try:
                return self.sources.open(wanted)
            except AddressError:
                self._closed.refuse_held(wanted)
                # The worker that held it may have closed it since the first try.
                return self.sources.open(wanted)
        except REFUSALS as error:
            raise refusal(wanted, error) from error

    def adopt(self, new: "Listeners") -> None:
        """Become ``new``: close the listeners that it lacks, apply its options to the
        others, undo what programs have changed about those that they get no more, and
        store all. A listener that refuses its options is mended later.
        """
        for key, listener in self.opened.items():
            if key not in new.opened:
                self._closed.remember(listener)
                listener.end(self.sources.store)
                continue
            wanted = new.opened[key].wanted
            if listener.wanted.is_lent and not wanted.is_lent:
                with contextlib.suppress(*REFUSALS):
                    listener.restore()
            if listener.wanted.options != wanted.options:
                try:
                    listener.retune(wanted.options)
                    new.opened[key] = new.opened[key].tuned()
                except REFUSALS:
                    self._untuned.add(key)
        self.opened, self.absent = new.opened, new.absent
        self._unserved.clear()
        self._ask_at, self._pauses = 0.0, False
        self._forget_closed()
        self.store()

    def _forget_closed(self) -> None:
        for key in self._broken.keys() - self.opened.keys() - self.absent.keys():
            del self._broken[key]
        for times in (self._renewed_at, self._changed_at, self._changing_until):
            for key in times.keys() - self.opened.keys():
                del times[key]
        self._untuned &= self.opened.keys()
        self._unserved &= self.opened.keys()

    def store(self) -> None:
        """Store the listeners that are not in the descriptor store yet. Called once a
        second, because the service manager may have been out of reach.
        """
        self.opened = {
            key: listener.stored_in(self.sources.store) for key, listener in self.opened.items()
        }

    def mend(self, now: float, *, may_renew: bool) -> Iterator[Repair]:
        """Repair each listener that no client reaches, or that another process has
        changed. Yield every repair, and a failed one only once for each reason.
        ``may_renew``: a new socket may take the place of one that cannot be repaired
        itself, or of one that is absent.
        """
        self._closed.forget_gone()
        closely = self._next_keys()
        for key, listener in list(self.opened.items()):
            found = ailment(listener, look_closely=key in closely)
            if found is None and key not in self._untuned:
                listener.keep_backlog()
                calm = now >= self._changing_until.get(key, -math.inf)
                if calm and (reason := self._broken.pop(key, "")):
                    yield Repair.of(listener, Outcome.MENDED, reason)
                continue
            repair = self._repair(key, found or NOT_TUNED, now, may_renew=may_renew)
            if repair is None:
                continue
            if repair.outcome is not Outcome.BROKEN:
                self._broken.pop(key, None)
                self._untuned.discard(key)
                yield repair
            elif self._is_news(key, repair.reason):
                yield repair
        if may_renew:
            yield from self._open_absent()

    def _is_news(self, key: str, reason: str) -> bool:
        """Note why a listener is broken; return whether that was another reason."""
        known, self._broken[key] = self._broken.get(key), reason
        return known != reason

    def _open_absent(self) -> Iterator[Repair]:
        """Open the absent listeners as far as that is possible now."""
        for key, wanted in list(self.absent.items()):
            try:
                opened = self._open(wanted, self.opened.values(), self.opened)
            except UnpdError as error:
                if self._is_news(key, str(error)):
                    address = wanted.address.text
                    yield Repair(wanted.service, address, Outcome.BROKEN, str(error))
                continue
            del self.absent[key]
            self.opened[key] = opened
            self._unserved.add(key)
            yield Repair.of(opened, Outcome.RENEWED, self._broken.pop(key, ABSENT))

    def _next_keys(self) -> set[str]:
        """The keys of the listeners to look at closely in this sweep, which takes 0.1
        ms for each.
        """
        keys = list(self.opened)
        if len(keys) <= CLOSE_LOOKS:
            return set(keys)
        first, self._look_next = self._look_next % len(keys), self._look_next + CLOSE_LOOKS
        return set((keys + keys)[first : first + CLOSE_LOOKS])

    def _repair(self, key: str, found: Ailment, now: float, *, may_renew: bool) -> Repair | None:
        """Repair one listener; None if that has to wait."""
        listener = self.opened[key]
        if found.remedy is not Remedy.RENEW:
            repair = self._mend_in_place(listener, found)
            if repair is not None:
                return self._noticed(key, repair, now) if found.remedy is Remedy.RESTORE else repair
        return self._renew(key, listener, found, now) if may_renew else None

    def _mend_in_place(self, listener: OpenListener, found: Ailment) -> Repair | None:
        """Repair the socket; None if it needs a new one."""
        try:
            if found.remedy is Remedy.RETUNE:
                listener.retune(listener.wanted.options)
                self.opened[listener.wanted.key] = listener.tuned()
            else:
                listener.restore()
                if listener.changes():
                    return None
        except REFUSALS as error:
            return Repair.of(listener, Outcome.BROKEN, reason_of(listener.wanted, error))
        return Repair.of(listener, Outcome.MENDED, found.reason)

    def _noticed(self, key: str, repair: Repair, now: float) -> Repair:
        """Return the repair of a socket that another process has changed, as a fault if
        that happens again and again.
        """
        again = now < self._changed_at.get(key, -math.inf) + RENEWAL_PAUSE_S
        self._changed_at[key] = now
        if repair.outcome is not Outcome.MENDED or not again:
            return repair
        self._changing_until[key] = now + RENEWAL_PAUSE_S
        return replace(repair, outcome=Outcome.BROKEN, reason=KEEPS_CHANGING)

    def _renew(self, key: str, listener: OpenListener, found: Ailment, now: float) -> Repair:
        reason = found.reason
        if listener.passed:
            return Repair.of(listener, Outcome.BROKEN, f"{reason}; restart its socket unit")
        if now < self._renewed_at.get(key, -math.inf) + RENEWAL_PAUSE_S:
            again = f"{reason}; it is opened anew {RENEWAL_PAUSE_S:g} s after the last time"
            return Repair.of(listener, Outcome.BROKEN, again)
        try:
            if found.remedy is Remedy.RESTORE and isinstance(listener.address, TcpAddress):
                self._renewed_at[key] = now  # its clients are reset: not every second
                free_port(listener)
            new = open_anew(listener)
        except REFUSALS as error:
            return Repair.of(listener, Outcome.BROKEN, reason_of(listener.wanted, error))
        listener.end(self.sources.store)
        self.opened[key] = new
        self._renewed_at[key] = now
        self._unserved.add(key)
        return Repair.of(new, Outcome.RENEWED, reason)

    def faults(self) -> dict[str, str]:
        """One sentence for each listener that clients do not reach, by key."""
        lack = "it is a new socket, which the children lack yet"
        if self._pauses:
            lack += f"; the reload for it was refused, the next one is {_PAUSE} later"
        new = dict.fromkeys(self._unserved, lack)
        return {
            key: reason
            if key in self.absent
            else f"{self.opened[key].wanted.owner} does not serve {self.opened[key].text}: {reason}"
            for key, reason in (new | self._broken).items()
        }

    def unreachable(self) -> set[str]:
        """The services of which clients reach no listener."""
        faults = self.faults()
        reached = {
            opened.wanted.service for key, opened in self.opened.items() if key not in faults
        }
        return {opened.wanted.service for opened in self.opened.values()} - reached

    def needs_reload(self, now: float) -> bool:
        """Whether to ask for a reload now, so that the children get the renewed
        listeners. Call it only while no reload is under way.
        """
        if not self._unserved:
            return False
        self._pauses = now < self._ask_at
        if self._pauses:
            return False
        self._ask_at = now + RENEWAL_PAUSE_S
        return True

    @property
    def waiting(self) -> list[OpenListener]:
        """The renewed listeners that the children lack, while no reload is asked for,
        because the last one was refused.
        """
        return [self.opened[key] for key in sorted(self._unserved)] if self._pauses else []

    def added_by(self, new: "Listeners") -> list[OpenListener]:
        """The listeners that only ``new`` has."""
        return [listener for key, listener in new.opened.items() if key not in self.opened]

    def drop(self, new: "Listeners") -> None:
        """Close the listeners that only ``new`` has: its configuration was refused."""
        for listener in self.added_by(new):
            self._closed.remember(listener)
            listener.close()

    def wanted(self) -> list[WantedListener]:
        """What each open listener is for."""
        return [listener.wanted for listener in self.opened.values()]

    def of(self, service: str) -> list[OpenListener]:
        """The listeners of one service, or of METRICS."""
        return [listener for listener in self.opened.values() if listener.wanted.service == service]

    def close(self) -> None:
        """Close all listeners, because the daemon ends."""
        self.absent.clear()
        while self.opened:
            self.opened.popitem()[1].close()
        self._forget_closed()


def _is_ours(wanted: WantedListener) -> bool:
    return not isinstance(wanted.address, SystemdAddress)


def _refuse_other_ipv6_only(listener: OpenListener, wanted: WantedListener) -> None:
    """AddressError if ipv6_only of ``::`` differs: it cannot change after bind(2)
    (ipv6(7)). It means nothing for other addresses.
    """
    changed = listener.wanted.options.ipv6_only != wanted.options.ipv6_only
    if changed and isinstance(wanted.address, InternetAddress) and wanted.address.host == "::":
        raise AddressError(
            f"service {wanted.service}: ipv6_only of {wanted.address.text} cannot be changed"
            " while it is open: restart unpd"
        )
