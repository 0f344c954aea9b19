"""Collects the errors and warnings about a configuration, in sentences for operators.

A finding is the path of a key and a sentence. If a service has the value of the key
from ``[defaults]``, the finding stands there, once for all services, and names them.
:meth:`Findings.refuse` translates pydantic's errors: the sentence says what the field's
description calls right, and never repeats the value. :func:`problems` adds files and
lines at the end, and only if there is anything to report.

Owns the findings of one load. Called by the steps of a load. Calls unpd.config.origins
for files and lines. Raises nothing.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from unpd.config.lines import KeyPath
from unpd.config.origins import Origins
from unpd.config.section import ItemErrors
from unpd.config.wording import key_shown, suggestion
from unpd.errors import Problem
from unpd.libraries import BaseModel, ErrorDetails, ValidationError
from unpd.services.base import UnknownNameError

MAX_PROBLEMS = 100
"""More than an operator reads, and few enough for one answer of the control socket."""

MAX_ADVICE = 10
"""For how many faults the nearest word is looked for. That takes up to a few
milliseconds, and a file may hold thousands of faults.
"""
NO_ADVICE = f"similar words are shown for the first {MAX_ADVICE} faults only"
"""The end of a sentence that has no advice otherwise."""


MAX_SHOWN_SERVICES = 3


@dataclass(slots=True)
class Finding:
    """One error or warning about the key at ``path``. ``services``: the names of those
    that have the value from ``[defaults]``.
    """

    path: KeyPath
    message: str
    services: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = [f"services.{name}" for name in self.services[:MAX_SHOWN_SERVICES]]
        if hidden := len(self.services) - len(shown):
            shown.append(f"and {hidden} more")
        return f"{self.message} ({', '.join(shown)})" if shown else self.message


class Findings:
    """The errors and warnings about one configuration, in the order of their
    discovery.
    """

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self._inherited: set[KeyPath] = set()
        self._refused: set[KeyPath] = set()
        self._of_defaults: dict[tuple[KeyPath, str], Finding] = {}
        self._advised = 0
        self._known: dict[Callable[[], Iterable[str]], tuple[str, ...]] = {}

    def inherit(self, service: str, keys: Iterable[str]) -> None:
        """Note that this service has these keys from ``[defaults]``."""
        self._inherited |= {("services", service, key) for key in keys}

    def is_inherited(self, path: KeyPath) -> bool:
        """Whether the key at ``path`` is one that a service has from ``[defaults]``."""
        return path[:3] in self._inherited

    def is_refused(self, path: KeyPath) -> bool:
        """Whether the key at ``path`` had a faulty value, and has a default now."""
        return any(path[:length] in self._refused for length in range(len(path) + 1))

    def may_advise(self) -> bool:
        """Whether the nearest word is looked for once more; the question counts."""
        self._advised += 1
        return self._advised <= MAX_ADVICE

    def advice(self, word: str, known: Iterable[str], otherwise: str) -> str:
        """The end of a sentence about ``word``: the nearest of the ``known`` words if
        one is near, else ``otherwise``.
        """
        return (self.may_advise() and suggestion(word, known)) or f"; {otherwise}"

    def error(self, path: KeyPath, message: str) -> None:
        """Add an error: the configuration is refused because of ``path``."""
        self._add(self.errors, path, message)

    def warning(self, path: KeyPath, message: str) -> None:
        """Add a warning: ``path`` is valid, but probably not what was meant."""
        self._add(self.warnings, path, message)

    def _add(self, found: list[Finding], path: KeyPath, message: str) -> None:
        if self.is_refused(path):
            return  # a default stands in for the value, and says nothing about it
        if not self.is_inherited(path):
            found.append(Finding(path, message))
            return
        place = ("defaults", *path[2:])
        if (place, message) not in self._of_defaults:
            self._of_defaults[place, message] = Finding(place, message)
            found.append(self._of_defaults[place, message])
        self._of_defaults[place, message].services.append(str(path[1]))

    def refuse(self, path: KeyPath, model: type[BaseModel], failure: ValidationError) -> None:
        """Add what pydantic found in the table at ``path``: one error for each value,
        although pydantic reports several for the members of a union, and one for each
        item that a validator of ours refuses. Later findings about the same keys are
        left out.
        """
        details: list[ErrorDetails] = []
        every = failure.errors(include_url=False)
        for detail in every:
            error = detail.get("ctx", {}).get("error")
            if not isinstance(error, ItemErrors):
                details.append(detail)
                continue
            for index, sentence in error.faults:
                self.error((*path, *detail["loc"][:1], index), sentence)
        found = {
            _path_in_table(detail): self._sentence(model, detail) for detail in reversed(details)
        }
        lists_with_bad_items = {key_path[:1] for key_path in found if len(key_path) > 1}
        for key_path, sentence in reversed(found.items()):
            # pydantic also calls a list too short if it refused the items.
            if key_path not in lists_with_bad_items:
                self.error((*path, *key_path), sentence)
        self._refused |= {(*path, *detail["loc"][:1]) for detail in every if detail["loc"]}

    def _sentence(self, model: type[BaseModel], detail: ErrorDetails) -> str:
        """The sentence of our validator, else one made of the field's description, else
        pydantic's own.
        """
        if detail["type"] == "value_error":
            error = detail["ctx"]["error"]
            return self._unknown_name(error) if isinstance(error, UnknownNameError) else str(error)
        known = model.model_fields.get(str(detail["loc"][0])) if detail["loc"] else None
        if known is None or not known.description:
            return detail["msg"][:1].lower() + detail["msg"][1:]
        if detail["type"] == "missing":
            return f"is missing; it must be {known.description}"
        quotes = "; write it without quotes" if _needless_quotes(known.description, detail) else ""
        return f"must be {known.description}{quotes}"

    def _unknown_name(self, error: UnknownNameError) -> str:
        """The sentence about an unknown name, with the nearest one that is known. The
        list of these is made once.
        """
        if not self.may_advise():
            return str(error)
        if error.known not in self._known:
            self._known[error.known] = tuple(error.known())
        near = suggestion(error.word, self._known[error.known])
        return error.sentence + near if near else str(error)


def _path_in_table(detail: ErrorDetails) -> KeyPath:
    """The key, and the index of the item if its value is a list. The rest of
    pydantic's location names the members of a union.
    """
    return (*detail["loc"][:1], *(index for index in detail["loc"][1:2] if isinstance(index, int)))


def _needless_quotes(wanted: str, detail: ErrorDetails) -> bool:
    """Whether the value is a number or a truth value in quotes, where one is wanted."""
    given = detail["input"]
    pattern = r"true|false" if wanted == "true or false" else r"-?[0-9]+(\.[0-9]+)?"
    return (
        isinstance(given, str)
        and ("number" in wanted or wanted == "true or false")
        and re.fullmatch(pattern, given) is not None
    )


def dotted_key(path: KeyPath) -> str:
    """``path`` as a dotted key, without the index of a list's item."""
    return ".".join(key_shown(key) for key in path if isinstance(key, str))


def problems(findings: list[Finding], origins: Origins) -> tuple[Problem, ...]:
    """``findings`` with their files and lines, sorted by these; at most
    :data:`MAX_PROBLEMS` and a last one that counts the rest.
    """
    placed = sorted(
        ((origins.place(finding.path), finding) for finding in findings),
        key=lambda pair: (pair[0].rank, pair[0].line or 0),
    )
    return bounded(
        [
            Problem(place.file, place.line, dotted_key(finding.path), str(finding))
            for place, finding in placed[:MAX_PROBLEMS]
        ],
        len(placed),
        origins.sources[0].file,
    )


def bounded(found: Sequence[Problem], total: int, file: str) -> tuple[Problem, ...]:
    """The first :data:`MAX_PROBLEMS` of ``found``, and, if ``total`` is larger, a last
    one about ``file`` that counts the rest.
    """
    if total <= MAX_PROBLEMS:
        return tuple(found)
    return (
        *found[:MAX_PROBLEMS],
        Problem(file, None, "", f"{total - MAX_PROBLEMS} more problems are not shown"),
    )
