"""Records: dataclasses that nobody compares, hashes or prints. Those that are values,
such as events, effects and addresses, are frozen dataclasses as ever.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Instance = TypeVar("_Instance")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[_Instance]) -> type[_Instance]:
    """A dataclass with slots that is compared by identity. That it is frozen is mypy's
    to see.

    dataclass compiles each method apart: a class that is frozen and has its eq and repr
    takes 213 us and 14 KB in Python 3.11, one without 72 us and 7 KB. There are more
    than forty: exec to ready takes 0.93 of the time, and the daemon's four processes
    are 0.4 MB smaller together (PSS).
    """
    return dataclass(slots=True, eq=False, repr=False)(cls)
