"""Checks of the clock. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.config.schema import Config

_TELL_TIME = ("daytime", "time")


def synchronised(facts: Facts) -> Iterator[Finding]:
    """The services that tell the time, and access_times, are as right as the clock."""
    if facts.clock is None:
        raise UnknownFactError("the kernel does not tell this user about its clock")
    if facts.clock.synchronised:
        return
    uses = _uses(facts.config)
    yield Finding(
        subject="the clock",
        problem="nothing keeps the clock of this host right"
        + (f"; it matters to {', '.join(uses)}" if uses else ""),
        found=f"adjtimex(2) says unsynchronised, an error of up to {facts.clock.max_error_s:g} s",
        right="synchronised, as timedatectl shows it",
        mend="timedatectl set-ntp true, or another NTP client such as chronyd",
        note=not uses,
    )


def _uses(config: Config) -> list[str]:
    return [
        f"services.{name}" + (".access_times" if service.access_times else "")
        for name, service in config.services.items()
        if service.type in _TELL_TIME or service.access_times
    ]
