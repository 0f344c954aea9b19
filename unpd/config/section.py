"""The base of every table of the configuration.

Used by :mod:`unpd.config.schema` and :mod:`unpd.config.access`. Calls nothing but
pydantic. Raises nothing.
"""

from collections.abc import Callable
from typing import Any

from unpd.libraries import BaseModel, ConfigDict


class Section(BaseModel):
    """A table. It is frozen and strict, and refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )


def array_of(most: int) -> Callable[[Any], Any]:
    """A validator that makes a tuple of a TOML array. An array with more than ``most``
    items stays a list, so that pydantic refuses it without validating its items.
    """

    def tuple_of(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) and len(value) <= most else value

    return tuple_of
