"""Collects the errors and warnings about a configuration, in sentences for operators.

A finding is the path of a key and a sentence. :meth:`Findings.refuse` translates
pydantic's errors: the sentence says what the field's description calls right, and never
repeats the value. :func:`problems` adds files and lines at the end, and only if there
is anything to report.

Owns the findings of one load. Called by the steps of a load. Calls unpd.config.origins
for files and lines. Raises nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unpd.config.lines import KeyPath
from unpd.config.origins import Origins
from unpd.config.wording import key_shown
from unpd.errors import Problem
from unpd.libraries import BaseModel, ErrorDetails, ValidationError

MAX_PROBLEMS = 100
"""More than an operator reads, and few enough for one answer of the control socket."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One error or warning about the key at ``path``."""

    path: KeyPath
    message: str


class Findings:
    """The errors and warnings about one configuration, in the order of their
    discovery.
    """

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []

    def error(self, path: KeyPath, message: str) -> None:
        """Add an error: the configuration is refused because of ``path``."""
        self.errors.append(Finding(path, message))

    def warning(self, path: KeyPath, message: str) -> None:
        """Add a warning: ``path`` is valid, but probably not what was meant."""
        self.warnings.append(Finding(path, message))

    def refuse(self, path: KeyPath, model: type[BaseModel], failure: ValidationError) -> None:
        """Add what pydantic found in the table at ``path``: one error for each value,
        although pydantic reports several for the members of a union.
        """
        details = failure.errors(include_input=False, include_url=False)
        found = {_path_in_table(detail): _sentence(model, detail) for detail in reversed(details)}
        lists_with_bad_items = {key_path[:1] for key_path in found if len(key_path) > 1}
        for key_path, sentence in reversed(found.items()):
            # pydantic also calls a list too short if it refused the items.
            if key_path not in lists_with_bad_items:
                self.error((*path, *key_path), sentence)


def _path_in_table(detail: ErrorDetails) -> KeyPath:
    """The key, and the index of the item if its value is a list. The rest of
    pydantic's location names the members of a union.
    """
    return (*detail["loc"][:1], *(index for index in detail["loc"][1:2] if isinstance(index, int)))


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    """The sentence of our validator, else one made of the field's description, else
    pydantic's own.
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
            Problem(place.file, place.line, dotted_key(finding.path), finding.message)
            for place, finding in placed
        ],
        origins.sources[0].file,
    )


def bounded(found: Sequence[Problem], file: str) -> tuple[Problem, ...]:
    """The first :data:`MAX_PROBLEMS` of ``found``, and a last one about ``file`` that
    counts the rest.
    """
    if len(found) <= MAX_PROBLEMS:
        return tuple(found)
    return (
        *found[:MAX_PROBLEMS],
        Problem(file, None, "", f"{len(found) - MAX_PROBLEMS} more problems are not shown"),
    )
