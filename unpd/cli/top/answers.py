"""Two answers of the daemon to ``status``, one after the other, and the rates between
them.

Called by the columns and the header of ``unpd top``, with answers that have every field
of the status. Pure. Raises nothing: null is a value that is not known.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from unpd.cli.tables import Values
from unpd.names import MISSING


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and when it came (monotonic)."""

    status: Values
    at: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Some values, and the same of an earlier answer. ``before``: None if there is no
    earlier answer of the same daemon that has them.
    """

    now: Values
    before: Values | None
    span_s: float

    def number(self, name: str) -> float | None:
        """A field; None if it is absent, or no number."""
        return _number(self.now, name)

    def rate(self, name: str) -> float | None:
        """How much a count went up in each second. None if that is not known."""
        now, before = self.number(name), _number(self.before or {}, name)
        if now is None or before is None or self.span_s <= 0 or now < before:
            return None
        return (now - before) / self.span_s


@dataclass(frozen=True, slots=True)
class Answers:
    """The last answer, and the one before it if both are of the same daemon."""

    last: Answer
    previous: Answer | None = None

    def then(self, answer: Answer) -> "Answers":
        """These with a new one after them. A daemon that was started anew counts from
        0 or from where the old one was: its first answer has nothing before it.
        """
        new, old = answer.status, self.last.status
        younger = (_number(new, "uptime_s") or 0) < (_number(old, "uptime_s") or 0)
        same = new.get("pid") == old.get("pid") and not younger
        return Answers(answer, self.last if same else None)

    @property
    def daemon(self) -> Pair:
        """The fields of the daemon itself."""
        return Pair(self.last.status, self.previous.status if self.previous else None, self._span_s)

    def services(self) -> list[Pair]:
        """The services, in the order of the configuration."""
        return self._pairs("services", "name")

    def children(self) -> list[Pair]:
        """The children, each start of which has a number of its own (birth), and the
        slots that lack one.
        """
        missing = (
            Pair({**slot, "phase": MISSING}, None, 0.0) for slot in self.last.status["missing"]
        )
        return [*self._pairs("children", "birth"), *missing]

    def events(self) -> list[Pair]:
        """The last events, the newest first."""
        return self._pairs("events", "number")

    @property
    def _span_s(self) -> float:
        return self.last.at - self.previous.at if self.previous else 0.0

    def _pairs(self, name: str, key: str) -> list[Pair]:
        earlier = self.previous.status[name] if self.previous else None
        before = {each[key]: each for each in earlier or ()}
        return [
            Pair(each, before.get(each[key]), self._span_s) for each in self.last.status[name] or ()
        ]


def total(values: Iterable[float | None]) -> float | None:
    """The sum of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _number(values: Values, name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
