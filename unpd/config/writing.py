"""Writes values of the configuration as TOML.

Called by unpd.config.plan for the effective configuration, and to show a key by
unpd.config.access and for the metrics by unpd.master. Raises TypeError for a type that
TOML cannot express: a fault of a service type.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unpd.config.access_lists import AccessList
from unpd.config.addresses import FileAddress, InternetAddress, SystemdAddress
from unpd.config.control import ReadGroup
from unpd.config.section import Section
from unpd.errors import MAX_CHARACTERS


def fields_of(section: Section) -> dict[str, Any]:
    """The keys with their values. TOML has no null: a key whose value is None, such as
    a group, is left out.
    """
    values = {key: getattr(section, key) for key in type(section).model_fields}
    return {key: value for key, value in values.items() if value is not None}


def written(value: Any) -> str:
    """One value as TOML. TypeError."""
    match value:
        case bool() | int() | float():
            return _number(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Path():
            return written(str(value))
        case InternetAddress() | FileAddress() | SystemdAddress():
            return written(value.text)
        case ReadGroup():
            return written(value.name)
        case AccessList():
            return written(value.texts)
        case Section():
            return _table(fields_of(value))
        case dict():
            return _table(value)
        case tuple() | list():
            return f"[{', '.join(written(item) for item in value)}]"
    raise TypeError(f"an option of type {type(value).__name__} cannot be written as TOML")


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value == int(value) else repr(value)


def _table(values: Mapping[str, Any]) -> str:
    """An inline table."""
    pairs = ", ".join(f"{_key(key)} = {written(item)}" for key, item in values.items())
    return f"{{ {pairs} }}" if pairs else "{}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else written(key)


def key_shown(key: str, value: Any) -> str:
    """A key as the configuration has it, for a message: the beginning of a long one."""
    text = f"{key} = {written(value)}"
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
