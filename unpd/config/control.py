"""The table ``[control]``: which group may look at the daemon over the control socket.

The group is looked up with the load, as those of access lists are: an unknown one
refuses the configuration, and nobody has to look it up later. A reload looks it up
again, in the thread of the master; a number needs no look-up. Used by
:mod:`unpd.config.schema` and by the control socket. Calls the group database. The
validator raises ValueError with one sentence, which pydantic collects.
"""

import grp
import re
from dataclasses import dataclass
from typing import Annotated, Any

from unpd.access.accounts import MAX_ID
from unpd.config.section import Section
from unpd.errors import quoted
from unpd.libraries import BeforeValidator, Field

GROUP = 'the name or the number of a group as a string, such as "adm" or "4", or "" for none'
_NAME = re.compile(r"[^\s:/\x00-\x1f\x7f]{1,256}")
"""As that of the key daemon.group."""


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """A group as the configuration names it, and its number."""

    name: str
    gid: int


def _read_group(value: Any) -> Any:
    if value is None or value == "" or isinstance(value, ReadGroup):
        return value or None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"must be {GROUP}")
    if value.isascii() and value.isdecimal():
        if int(value) > MAX_ID:
            raise ValueError(f"the number of a group is at most {MAX_ID}")
        return ReadGroup(value, int(value))
    try:
        return ReadGroup(value, grp.getgrnam(value).gr_gid)
    except (KeyError, UnicodeEncodeError):  # the latter: the locale lacks a character
        raise ValueError(f"there is no group {quoted(value)} on this system") from None


class Control(Section):
    """The table ``[control]``. ``read_group``: None for no group."""

    read_group: Annotated[ReadGroup | None, BeforeValidator(_read_group)] = Field(
        None, description=GROUP
    )
