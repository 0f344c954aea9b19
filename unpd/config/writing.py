"""Writes values of the configuration as TOML.

Called by unpd.config.plan for the effective configuration, and to show a key by
unpd.config.access and for the metrics by unpd.master. Raises TypeError for a type that
TOML cannot express: a fault of a service type.
"""

import json
from pathlib import Path
from typing import Any

from unpd.config.access_lists import AccessList
from unpd.config.addresses import FileAddress, InternetAddress, SystemdAddress
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
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Path():
            return written(str(value))
        case InternetAddress() | FileAddress() | SystemdAddress():
            return written(value.text)
        case AccessList():
            return written(value.texts)
        case Section():
            pairs = (f"{key} = {written(item)}" for key, item in fields_of(value).items())
            return f"{{ {', '.join(pairs)} }}"
        case tuple() | list():
            return f"[{', '.join(written(item) for item in value)}]"
    raise TypeError(f"an option of type {type(value).__name__} cannot be written as TOML")


def key_shown(key: str, value: Any) -> str:
    """A key as the configuration has it, for a message: the beginning of a long one."""
    text = f"{key} = {written(value)}"
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
