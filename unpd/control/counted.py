"""Numbers of something in sentences: 1 connection, 2 connections.

Called by the master and the command line for texts that people read. Pure. Raises
nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

_PLURALS: Mapping[str, str] = MappingProxyType({"child": "children", "entry": "entries"})


def counted(number: int, noun: str) -> str:
    """The number and the noun, which is in the plural unless the number is 1."""
    if number == 1:
        return f"{number} {noun}"
    plural = _PLURALS.get(noun) or (f"{noun}es" if noun.endswith("s") else f"{noun}s")
    return f"{number} {plural}"
