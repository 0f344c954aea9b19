"""Asks systemd about the unit by which unpd runs, or would run.

Called by :mod:`unpd.cli.doctor.gather`; runs systemctl(1), and looks accounts
up. Raises nothing: the reason why there is no unit is returned.
"""

import math
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from unpd.cli.doctor.facts import ProcessLimits, Unit
from unpd.config.host import CONFIG_DIR, instance_of
from unpd.kernel import privileges

PROPERTIES = (
    "LoadState",
    "Type",
    "NotifyAccess",
    "TimeoutStopUSec",
    "KillMode",
    "LimitNOFILE",
    "LimitNPROC",
    "User",
    "Group",
    "SupplementaryGroups",
    "AmbientCapabilities",
    "MainPID",
    "RuntimeDirectory",
    "StateDirectory",
    "LogsDirectory",
    "NFileDescriptorStore",
)
_MADE_IN = MappingProxyType(
    {"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "LogsDirectory": "/var/log"}
)
"""Where systemd makes the directories of a property (systemd.exec(5))."""
PATIENCE_S = 5.0
NO_SYSTEMD = "this host was not booted with systemd"
_VERSION = re.compile(r"systemd (\d+)")
_UNIT = re.compile(r"/([^/]+\.service)$", re.MULTILINE)
_SPAN = re.compile(r"([0-9.]+) ?([a-z]+)")
_UNITS_S: Mapping[str, float] = MappingProxyType(
    {
        "us": 1e-6,
        "ms": 1e-3,
        "s": 1.0,
        "min": 60.0,
        "h": 3600.0,
        "d": 86_400.0,
        "w": 604_800.0,
        "month": 2_629_800.0,
        "y": 31_557_600.0,
    }
)
"""The units of a span as systemctl writes it (systemd.time(7))."""

Answer = tuple[Unit | None, ProcessLimits | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look. ``booted``: there if systemd is process 1 (sd_booted(3))."""

    booted: Path = Path("/run/systemd/system")
    proc: Path = Path("/proc")
    systemctl: tuple[str, ...] = ("/usr/bin/env", "systemctl")


def unit(pid: int, config: Path | None, places: Places | None = None) -> Answer:
    """The unit of the daemon ``pid``, with its limits; for 0 that of a configuration
    file as the package has it. Otherwise the reason why there is none.

    A daemon that was started by hand may be in the cgroup of another unit, such as that
    of cron, of sshd or of a user's manager.
    """
    places = places or Places()
    if not places.booted.is_dir():
        return None, None, NO_SYSTEMD
    name = _name(pid, config, places)
    if not name:
        return None, None, "no unit of systemd runs unpd here"
    shown = _show(name, places)
    if shown is None:
        return None, None, f"systemctl does not tell about {name}"
    if pid and shown.get("MainPID") != str(pid):
        return None, None, f"{name}, in whose cgroup unpd runs, does not run unpd"
    return described(name, shown, _systemd_version(places))


def _name(pid: int, config: Path | None, places: Places) -> str:
    if not pid:
        instance = instance_of(config)
        packaged = "unpd.service" if config == CONFIG_DIR / "unpd.toml" else ""
        return f"unpd@{instance}.service" if instance else packaged
    try:
        found = _UNIT.search((places.proc / f"{pid}/cgroup").read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def _show(name: str, places: Places) -> dict[str, str] | None:
    printed = _systemctl(places, "show", f"--property={','.join(PROPERTIES)}", "--", name)
    if printed is None:
        return None
    lines = (line.partition("=") for line in printed.splitlines())
    return {key: value for key, _, value in lines}


def _systemd_version(places: Places) -> int:
    found = _VERSION.match(_systemctl(places, "--version") or "")
    return int(found[1]) if found else 0


def _systemctl(places: Places, *words: str) -> str | None:
    """What systemctl prints; None if it fails."""
    try:
        ended = subprocess.run(  # noqa: S603 - a fixed command, and the name of a cgroup
            (*places.systemctl, *words),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if ended.returncode else ended.stdout


def described(name: str, shown: Mapping[str, str], systemd: int = 0) -> Answer:
    """The unit that these properties of ``systemctl show`` describe, of this version of
    systemd.
    """
    if shown.get("LoadState") != "loaded":
        return None, None, f"there is no unit {name}"
    kind = shown.get("Type", "")
    found = Unit(
        name=name,
        # Without access unpd's messages, also those that ask for more time, are lost.
        type=kind if shown.get("NotifyAccess") != "none" else f"{kind} with NotifyAccess=none",
        kill_mode=shown.get("KillMode", ""),
        stop_s=seconds(shown.get("TimeoutStopUSec", "")),
        user=_named(shown.get("User", ""), privileges.user_name),
        group=_named(shown.get("Group", ""), privileges.group_name),
        groups=tuple(
            _named(group, privileges.group_name)
            for group in shown.get("SupplementaryGroups", "").split()
        ),
        ambient=frozenset(shown.get("AmbientCapabilities", "").split()),
        systemd=systemd,
        directories=tuple(
            Path(parent, directory.partition(":")[0])
            for key, parent in _MADE_IN.items()
            for directory in shown.get(key, "").split()
        ),
        stored=_number(shown.get("NFileDescriptorStore", "")) or 0,
    )
    limits = ProcessLimits(
        source=name,
        open_files=_number(shown.get("LimitNOFILE", "")),
        processes=_number(shown.get("LimitNPROC", "")),
    )
    return found, limits, ""


def _named(account: str, name_of: Callable[[int], str]) -> str:
    """The name of a user or group; a unit may have its number (systemd.exec(5))."""
    number = _number(account)
    return account if number is None else name_of(number)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def seconds(text: str) -> float:
    """A span such as "1min 30s" in seconds; inf for "infinity" and for no span."""
    parts = _SPAN.findall(text)
    if not parts or any(name not in _UNITS_S for _, name in parts):
        return math.inf
    return sum(float(number) * _UNITS_S[name] for number, name in parts)
