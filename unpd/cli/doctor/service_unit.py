"""Checks of the unit of systemd by which unpd runs. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts, Unit, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.config.schema import Daemon

NOTIFYING = ("notify", "notify-reload")
"""The types for which unpd asks systemd for more time while it drains
(EXTEND_TIMEOUT_USEC= in sd_notify(3)).
"""
MARGIN_S = 5.0
"""What the end of the processes may take beside the lame time and the grace."""
STRICT = 255
"""The version of systemd from which on a unit with User= and a filter of system calls
loses CAP_SETUID, even with User=root, unless AmbientCapabilities= names it.
"""
LEAST_S = 2.0
"""How soon unpd asks for more time at the latest, with room for a busy host."""


def stop_timeout(facts: Facts) -> Iterator[Finding]:
    """After TimeoutStopSec= systemd kills what has not ended."""
    unit, daemon = _unit(facts), facts.config.daemon
    whole_s = daemon.lame_duck_s + daemon.grace_s + MARGIN_S
    least_s, right = whole_s, "Type=notify, by which unpd asks for its time; or "
    if unit.type in NOTIFYING:
        least_s, right = LEAST_S, ""
    if unit.stop_s < least_s:
        yield Finding(
            subject="TimeoutStopSec",
            problem="systemd kills unpd before its connections have had their time",
            found=f"{unit.stop_s:g} s, {_times(daemon)}, Type={unit.type}",
            right=f"{right}{whole_s:g} s",
            mend=f"TimeoutStopSec={whole_s:g} in [Service] (systemctl edit {unit.name})",
        )


def _times(daemon: Daemon) -> str:
    """The times of the configuration that a stop takes."""
    grace = f"daemon.grace_s {daemon.grace_s:g}"
    return f"daemon.lame_duck_s {daemon.lame_duck_s:g}, {grace}" if daemon.lame_duck_s else grace


def kill_mode(facts: Facts) -> Iterator[Finding]:
    """A signal to every process of the unit would end workers beside the order."""
    unit = _unit(facts)
    if unit.kill_mode != "mixed":
        yield Finding(
            subject="KillMode",
            problem="systemd signals the workers too, or kills nothing that is left",
            found=unit.kill_mode,
            right="mixed: the main process drains its workers, and systemd kills what is left",
            mend=f"KillMode=mixed in [Service] (systemctl edit {unit.name})",
        )


def drop_in(facts: Facts) -> Iterator[Finding]:
    """The programs.conf of unpd 0.1 and before says User=root."""
    unit = _unit(facts)
    if unit.user == "root" and "cap_setuid" not in unit.ambient:
        yield Finding(
            subject="User",
            problem="systemd 255 and later take CAP_SETUID from this unit, and unpd cannot start",
            found=f"User=root, systemd {unit.systemd or 'of an unknown version'}",
            right="an empty User=, which means root too, as in the programs.conf of this version",
            mend=(
                f"copy programs.conf to /etc/systemd/system/{unit.name}.d again, then systemctl"
                " daemon-reload"
            ),
            note=0 < unit.systemd < STRICT,
        )


def _unit(facts: Facts) -> Unit:
    if facts.unit is None:
        raise UnknownFactError(facts.unit_unknown)
    return facts.unit
