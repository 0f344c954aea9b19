"""The keys of a terminal: bytes in, names of keys out.

Called by the screen of ``unpd top``. Pure. Raises nothing: what is no key is passed
over. A key's name is the character that it types, or one of the names in
:data:`SEQUENCES` and :data:`CONTROLS`.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

SEQUENCES: Mapping[str, str] = MappingProxyType(
    {
        "A": "up",
        "B": "down",
        "C": "right",
        "D": "left",
        "H": "home",
        "F": "end",
        "1~": "home",
        "7~": "home",
        "4~": "end",
        "8~": "end",
        "5~": "page_up",
        "6~": "page_down",
        "3~": "backspace",
    }
)
"""What stands after ESC [ or ESC O, on the terminals of Linux (console_codes(4)) and
xterm.
"""
CONTROLS: Mapping[str, str] = MappingProxyType(
    {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}
)
_KEY = re.compile(r"\x1b[\[O]([0-9;]*[~A-Za-z])|(\x1b)|(.)", re.DOTALL)


def keys_of(typed: bytes) -> list[str]:
    """The keys that were pressed. A terminal sends the bytes of a key at once, so an
    ESC alone is that key.
    """
    keys = []
    for sequence, escape, char in _KEY.findall(typed.decode(errors="ignore")):
        if sequence:
            key = SEQUENCES.get(sequence, "")
        elif escape:
            key = "escape"
        else:
            key = CONTROLS.get(char, char if char.isprintable() else "")
        keys += [key] if key else []
    return keys
