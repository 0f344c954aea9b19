"""Whether the memory of sources has room for the connections of a worker."""

from collections.abc import Callable

import pytest

from unpd.config.load import Loaded

Accept = Callable[[str], Loaded]

POOL = "[pools.default]\nmax_connections_per_worker = {}\n"
COUNTED = "[services.echo]\nmax_per_source = 3\n"


def test_more_connections_than_sources_can_be_told_apart(accept: Accept) -> None:
    """The warning says how many would do."""
    assert accept(POOL.format(16384) + COUNTED).warnings == ()
    assert accept(POOL.format(16385) + COUNTED).warnings == (
        (
            "unpd.toml:2: pools.default.max_connections_per_worker: if more than 16384 sources have"
            " connections to one worker, max_per_source of services.echo may refuse sources that"
            " have fewer than it allows: set at most 16384, and more workers"
        ),
    )


@pytest.mark.parametrize(
    "service",
    [
        "[services.echo]\n",
        f"{COUNTED}max_connections = 16384\n",
        f"{COUNTED}model = 'fork'\n",
        f"{COUNTED}pool = 'other'\n[pools.other]\n",
    ],
)
def test_where_the_memory_is_enough_nothing_is_said(accept: Accept, service: str) -> None:
    """Without the limit, with a lower one, in another model or another pool."""
    found = accept(POOL.format(40_000) + service).warnings
    assert not [text for text in found if "max_per_source" in text]
