"""Numbers as short text: counts, shares and spans of time. Bytes and rates have no form
of their own here: they are those of :mod:`unpd.wording`.

Called by the tables and the header of ``unpd top``. Pure. Raises nothing.
"""

from unpd.wording import NOTHING

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def count(value: float | None) -> str:
    """A count: whole below 100,000, else with three digits and a prefix."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value < 100_000 else _scaled(value)


def percent(value: float | None) -> str:
    """Per cents, without a fraction."""
    return NOTHING if value is None else f"{value:.0f}%"


def _scaled(value: float) -> str:
    """Three digits and a prefix."""
    index = 0
    while value >= 999.5 and index < len(_PREFIXES) - 1:
        value /= 1000
        index += 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{_PREFIXES[index]}"


def span(seconds: float | None) -> str:
    """A span of time by its two largest units: 3d04h, 2h05m, 4m07s, 9s."""
    if seconds is None:
        return NOTHING
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"
