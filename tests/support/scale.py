"""Scales long durations, big counts and many rows down in the default run.
UNPD_TEST_SCALE=1 (``make test-full``) runs durations and counts in full, ``make
test-slow`` the other rows. Chaos, integration and property tests use it.
"""

import os
from collections.abc import Iterable
from typing import Any

import pytest

DEFAULT_SCALE = 0.05


def scale() -> float:
    """Return the factor of this run, above 0 and at most 1."""
    factor = float(os.environ.get("UNPD_TEST_SCALE", DEFAULT_SCALE))
    if not 0 < factor <= 1:
        raise ValueError(f"UNPD_TEST_SCALE must be above 0 and at most 1, not {factor}")
    return factor


def long(seconds: float, *, at_least: float = 0.0) -> float:
    """Scale ``seconds`` of the full run. The result is at least ``at_least`` seconds
    and at most the full time.
    """
    return max(seconds * scale(), min(at_least, seconds))


def many(count: int, *, at_least: int = 1) -> int:
    """Scale ``count`` repetitions of the full run. The result is at least ``at_least``
    and at most the full count.
    """
    return max(round(count * scale()), min(at_least, count))


def first(count: int, rows: Iterable[Any]) -> list[Any]:
    """Return the rows of a parametrized test. All but the first ``count`` are slow."""
    chosen = list(rows)
    others = (row if isinstance(row, tuple) else (row,) for row in chosen[count:])
    return [*chosen[:count], *(pytest.param(*row, marks=pytest.mark.slow) for row in others)]
