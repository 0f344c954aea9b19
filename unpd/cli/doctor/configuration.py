"""The check of the configuration itself. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts
from unpd.cli.doctor.finding import Finding


def configuration(facts: Facts) -> Iterator[Finding]:
    """What a load says about the files."""
    for problem in facts.refusal:
        yield Finding(
            subject="the configuration",
            problem=problem,
            found="a configuration that is refused",
            right="one that unpd check accepts",
            mend="correct the file, then unpd check",
        )
    for warning in facts.warnings:
        yield Finding(
            subject="the configuration",
            problem=warning,
            found="a warning of unpd check",
            right="none",
            mend="correct the file, then unpd reload",
        )
