"""The command ``unpd services``: prints every service type that there is.

Called by dispatch. Calls unpd.config.service_types, which loads those of other
packages. Raises nothing: a type that cannot be used is reported on standard error, and
the exit code says that there is one.
"""

import argparse
from collections.abc import Sequence

from unpd.cli.output import complain, show
from unpd.config.service_types import Known, closed_packages, known_types, unread_packages
from unpd.names import ExitCode

HEADINGS = ("NAME", "RFC", "PORT", "KINDS", "FROM")


def services(args: argparse.Namespace) -> ExitCode:
    """``unpd services``: print the table."""
    del args
    known = tuple(known_types())
    shown = show("\n".join(_aligned([HEADINGS, *map(_row, known)])))
    faults = [*(each.fault for each in known if each.type is None), *unread_packages()]
    for fault in faults:
        complain(fault)
    if closed := closed_packages():
        complain(f"there may be more types in {closed}", name="warning: ")
    if faults:
        return ExitCode.CONFIGURATION
    return ExitCode.DONE if shown else ExitCode.FAILED


def _row(known: Known) -> tuple[str, ...]:
    row = known.type
    if row is None:
        return (known.name, "-", "-", "unusable", known.origin)
    kinds = [word for word, has in (("stream", row.stream), ("datagram", row.datagram)) if has]
    return (known.name, str(row.rfc or "-"), str(row.port or "-"), ", ".join(kinds), known.origin)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
