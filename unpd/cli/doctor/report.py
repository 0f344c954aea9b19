"""The report of ``unpd doctor``: what the checks tell about the facts, as values and as
text for people.

Called by :mod:`unpd.cli.doctor.command`. Pure. Raises nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unpd.cli.doctor.facts import Facts, UnknownFactError
from unpd.cli.doctor.finding import Check, Finding
from unpd.cli.doctor.table import CHECKS
from unpd.control.answer_fields import SCHEMA, AnswerField

FIELDS = (
    AnswerField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    AnswerField("daemon", "integer", "The main process of the daemon.", "none was asked"),
    AnswerField(
        "findings",
        "list",
        "What is wrong.",
        fields=(
            AnswerField("check", "text", f"{', '.join(check.name for check in CHECKS)}."),
            AnswerField("subject", "text", "The key, file, address or setting."),
            AnswerField("problem", "text", "A sentence."),
            AnswerField("found", "text", "The figure."),
            AnswerField("right", "text", "The one that would be right."),
            AnswerField("mend", "text", "The command or the key that changes it."),
            AnswerField("note", "boolean", "Whether it does not change the exit code."),
        ),
    ),
    AnswerField(
        "not_checked",
        "list",
        "The checks that could not be made.",
        fields=(
            AnswerField("check", "text", "The check, or daemon: it could not be asked."),
            AnswerField("reason", "text", "Why."),
        ),
    ),
    AnswerField("checked", "integer", "How many checks were made."),
)
"""What ``unpd doctor --json`` prints."""


@dataclass(frozen=True, slots=True)
class Report:
    """``findings``: by the name of their check. ``unknown``: the checks that could not
    be made, with the reason. ``checked``: how many were.
    """

    findings: tuple[tuple[str, Finding], ...]
    unknown: tuple[tuple[str, str], ...]
    checked: int
    daemon: int | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be mended."""
        return all(finding.note for _, finding in self.findings)


def examine(facts: Facts, checks: Sequence[Check] = CHECKS) -> Report:
    """Make each check."""
    findings: list[tuple[str, Finding]] = []
    unknown = [("daemon", facts.daemon_unknown)] if facts.daemon_unknown else []
    failed = 0
    for check in checks:
        try:
            # A check may fail after some findings: these stay.
            findings.extend((check.name, finding) for finding in check.find(facts))
        except UnknownFactError as error:
            unknown.append((check.name, str(error)))
            failed += 1
    pid = facts.daemon.pid if facts.daemon else None
    return Report(tuple(findings), tuple(unknown), len(checks) - failed, pid)


def as_fields(report: Report) -> dict[str, Any]:
    """The report as :data:`FIELDS` has it."""
    return {
        "schema": SCHEMA,
        "daemon": report.daemon,
        "findings": [{"check": name, **asdict(finding)} for name, finding in report.findings],
        "not_checked": [{"check": name, "reason": reason} for name, reason in report.unknown],
        "checked": report.checked,
    }


def as_text(report: Report) -> str:
    """The faults, the notes, what could not be checked, and a summary."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for name, finding in sorted(report.findings, key=lambda pair: pair[1].note):
        note = "note, " if finding.note else ""
        yield f"{note}{name}: {finding.subject}: {finding.problem}"
        yield f"  found: {finding.found}"
        yield f"  right: {finding.right}"
        yield f"  mend:  {finding.mend}"
    for name, reason in report.unknown:
        yield f"not checked, {name}: {reason}"
    faults = sum(not finding.note for _, finding in report.findings)
    notes = len(report.findings) - faults
    asked = f"with the daemon (pid {report.daemon})" if report.daemon else "without a daemon"
    yield f"{report.checked} checks {asked}: {faults} to mend, {notes} to note"
