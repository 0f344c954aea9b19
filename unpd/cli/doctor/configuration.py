"""The check of the configuration itself. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts
from unpd.cli.doctor.finding import Finding


def configuration(facts: Facts) -> Iterator[Finding]:
    """What a load says about the files."""
    for subject, _, problem in map(_parted, facts.refusal):
        yield Finding(
            subject=subject,
            problem=problem,
            found="a configuration that is refused",
            right="one that unpd check accepts",
            mend="correct the file, then unpd check",
        )
    for subject, _, problem in map(_parted, facts.warnings):
        yield Finding(
            subject=subject,
            problem=problem,
            found="a warning of unpd check",
            right="none",
            mend="correct the file, then unpd reload",
        )


def _parted(sentence: str) -> tuple[str, str, str]:
    """The file and the line with which a sentence begins, and the rest."""
    return sentence.partition(": ")
