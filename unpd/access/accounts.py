"""Users and groups in access rules: their names, and the numbers that a UNIX peer has
(SO_PEERCRED, unix(7)).

Owns the form of a name. Called by unpd.access.rules and unpd.access.peer; the lookups
come from the caller, since they read files. Raises ValueError with one sentence.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unpd.errors import quoted

MAX_ID = 2**32 - 2
"""The highest number of a user or a group: the one above means "none" (chown(2))."""
MAX_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Accounts:
    """The lookups. ``uid_of`` and ``gid_of``: the number of a name. ``gids_of``: all
    groups of a user. They raise KeyError if there is none, as the modules pwd and grp.
    """

    uid_of: Callable[[str], int]
    gid_of: Callable[[str], int]
    gids_of: Callable[[int], tuple[int, ...]]


def parse_uid(text: str, accounts: Accounts) -> int:
    """The number of a user in the form "uid:NAME"; the name may be a number."""
    return _number(text, "user", accounts.uid_of)


def parse_gid(text: str, accounts: Accounts) -> int:
    """The number of a group in the form "gid:NAME"; the name may be a number."""
    return _number(text, "group", accounts.gid_of)


def _number(text: str, kind: str, number_of: Callable[[str], int]) -> int:
    name = text.partition(":")[2]
    if not name:
        raise ValueError(f"{quoted(text)} must have the name of a {kind} after the colon")
    if name.isascii() and name.isdecimal():
        if len(name) > MAX_DIGITS or int(name) > MAX_ID:
            raise ValueError(
                f"{quoted(text)} is not known: the number of a {kind} is at most {MAX_ID}"
            )
        return int(name)
    try:
        return number_of(name)
    except (KeyError, ValueError):  # the latter of a zero byte in the name
        raise ValueError(
            f"{quoted(text)} is not known: this host has no {kind} {quoted(name)}"
        ) from None
