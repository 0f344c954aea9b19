"""Long durations: scaled down in the default run, in full with UNPD_TEST_SCALE=1
(``make test-full``).
"""

import os

DEFAULT_SCALE = 0.05


def scale() -> float:
    """The factor of this run, above 0 and at most 1."""
    factor = float(os.environ.get("UNPD_TEST_SCALE", DEFAULT_SCALE))
    if not 0 < factor <= 1:
        raise ValueError(f"UNPD_TEST_SCALE must be above 0 and at most 1, not {factor}")
    return factor


def long(seconds: float, *, at_least: float = 0.0) -> float:
    """``seconds`` of the full run, scaled for this one; never below ``at_least``
    seconds (nor above the full time).
    """
    return max(seconds * scale(), min(at_least, seconds))


def many(count: int, *, at_least: int = 1) -> int:
    """``count`` repetitions of the full run, scaled for this one; never below
    ``at_least`` (nor above the full count).
    """
    return max(round(count * scale()), min(at_least, count))
