"""Completes and reads the configurations of daemons under test.
:mod:`tests.support.launch` and tests of reloads use it.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_SERVICES = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""


def compose(text: str, directory: Path, *, log_file: Path | None = None) -> str:
    """Add to ``text`` what every test needs and this one left out: paths in
    ``directory``, a free port for metrics, a JSON log at debug, two workers, and echo
    and daytime if the text names no service.

    A table that the text already has gets the missing keys right after its header, so
    line numbers change.
    """
    wanted: dict[str, dict[str, Any]] = {
        "daemon": {
            "pid_file": str(directory / "unpd.pid"),
            "control": str(directory / "control.sock"),
        },
        "log": {"format": "json", "level": "debug"} | ({"file": str(log_file)} if log_file else {}),
        "metrics": {"listen": "tcp://127.0.0.1:0"},
        "pools.default": {"workers": 2},
    }
    parsed = tomllib.loads(text)
    lines = text.splitlines()
    for table, keys in wanted.items():
        present: Any = parsed
        for part in table.split("."):
            present = present.get(part, {})
        missing = [
            f"{key} = {json.dumps(value)}" for key, value in keys.items() if key not in present
        ]
        header = f"[{table}]"
        if header in lines:
            at = lines.index(header) + 1
            lines[at:at] = missing
        elif missing:
            lines += ["", header, *missing]
    if "services" not in parsed:
        lines += DEFAULT_SERVICES.splitlines()
    return "\n".join(lines) + "\n"


def write_drop_in(main: Path, name: str, text: str) -> Path:
    """Write conf.d/NAME.toml beside the configuration file ``main`` with a rename.
    Return its path.
    """
    path = main.parent / "conf.d" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text)
    return new.replace(path)


def table(text: str, name: str) -> Mapping[str, Any]:
    """Return one table of a configuration. It is empty where the text cannot be parsed,
    which some tests want.
    """
    try:
        found = tomllib.loads(text).get(name, {})
    except tomllib.TOMLDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
