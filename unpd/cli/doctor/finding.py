"""What a check may tell: a finding, or that it cannot be made.

Made by the checks of ``unpd doctor``, printed by :mod:`unpd.cli.doctor.report`. Calls
nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unpd.cli.doctor.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. ``subject``: the key, file, address or setting.
    ``problem``: a sentence. ``found``: the figure; ``right``: the one that would be
    right. ``mend``: the command or the key that changes it. ``note``: it need not be
    mended, and does not change the exit code.
    """

    subject: str
    problem: str
    found: str
    right: str
    mend: str
    note: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One row. ``about``: what it looks at. ``find`` yields what is wrong; it raises
    :class:`unpd.cli.doctor.facts.UnknownFactError` if it cannot be made.
    """

    name: str
    about: str
    find: Callable[[Facts], Iterator[Finding]]
