"""The base of every table of the configuration, and what validators of lists share.

Used by the modules of the schema, and by unpd.config.findings. Calls nothing but
pydantic. Raises nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from unpd.libraries import BaseModel, ConfigDict


class Section(BaseModel):
    """A table. It is frozen and strict, and refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class ItemErrors(ValueError):
    """A validator refuses items of a list. ``faults``: the index of each, with a
    sentence; there is at least one.
    """

    def __init__(self, faults: Sequence[tuple[int, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__(faults[0][1])


def array_of(most: int) -> Callable[[Any], Any]:
    """A validator that makes a tuple of a TOML array. An array with more than ``most``
    items stays a list, so that pydantic refuses it without validating its items.
    """

    def tuple_of(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) and len(value) <= most else value

    return tuple_of
