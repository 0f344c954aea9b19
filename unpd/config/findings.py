"""Collects everything that is wrong with a configuration and says it in the operator's
words.

A finding is a key's path and a sentence. pydantic's errors come in through
:meth:`Findings.refuse`, which says what the field's description calls right and never
repeats the value. Files and lines are looked up at the end, and only if there is
anything to report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unpd.config.lines import KeyPath
from unpd.config.origins import Origins
from unpd.config.wording import key_shown
from unpd.errors import Problem
from unpd.libraries import BaseModel, ErrorDetails, ValidationError

MAX_PROBLEMS = 100
"""More than an operator reads, few enough for one answer on the control socket."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth a warning, at ``path``."""

    path: KeyPath
    message: str


class Findings:
    """The errors and warnings of one configuration, in the order in which they were
    met.
    """

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []

    def error(self, path: KeyPath, message: str) -> None:
        """Note that ``path`` is refused."""
        self.errors.append(Finding(path, message))

    def warning(self, path: KeyPath, message: str) -> None:
        """Note that ``path`` is accepted but hardly what is meant."""
        self.warnings.append(Finding(path, message))

    def refuse(self, path: KeyPath, model: type[BaseModel], failure: ValidationError) -> None:
        """Take over what pydantic found in the table at ``path``, one finding for each
        value (a union gives several errors for one).
        """
        details = failure.errors(include_input=False, include_url=False)
        found = {_place(detail): _sentence(model, detail) for detail in reversed(details)}
        of_items = {place[:1] for place in found if len(place) > 1}
        for place, sentence in reversed(found.items()):
            if place not in of_items:  # a list whose items were refused is also called too short
                self.error((*path, *place), sentence)


def _place(detail: ErrorDetails) -> KeyPath:
    """The key, and the item if its value is a list, without pydantic's words for the
    members of a union.
    """
    return (*detail["loc"][:1], *(index for index in detail["loc"][1:2] if isinstance(index, int)))


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    """A validator's own sentence, else what the field's description calls right, else
    pydantic's words.
    """
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    known = model.model_fields.get(str(detail["loc"][0])) if detail["loc"] else None
    if known is None or not known.description:
        return detail["msg"][:1].lower() + detail["msg"][1:]
    return (
        f"is missing; it must be {known.description}"
        if detail["type"] == "missing"
        else f"must be {known.description}"
    )


def shown(path: KeyPath) -> str:
    """The dotted key of ``path``, without the index of an item."""
    return ".".join(key_shown(key) for key in path if isinstance(key, str))


def problems(findings: list[Finding], origins: Origins) -> tuple[Problem, ...]:
    """``findings`` with their files and lines, in the order of these, bounded."""
    placed = sorted(
        ((origins.place(finding.path), finding) for finding in findings),
        key=lambda pair: (pair[0].rank, pair[0].line or 0),
    )
    return bounded(
        [
            Problem(place.file, place.line, shown(finding.path), finding.message)
            for place, finding in placed
        ],
        origins.sources[0].file,
    )


def bounded(found: Sequence[Problem], file: str) -> tuple[Problem, ...]:
    """The first :data:`MAX_PROBLEMS` of ``found``, and, said of ``file``, how many more
    there are.
    """
    if len(found) <= MAX_PROBLEMS:
        return tuple(found)
    return (
        *found[:MAX_PROBLEMS],
        Problem(file, None, "", f"{len(found) - MAX_PROBLEMS} more problems are not shown"),
    )
