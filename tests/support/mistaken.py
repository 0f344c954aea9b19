"""unpd with one of the mistakes that readers of UNP make in a concurrent server.
``python -m tests.support.mistaken MISTAKE run ...`` is ``python -m unpd run ...``, but
a descriptor stays open in the dispatchers or in their sessions.

A test runs it to show what each descriptor does to the clients.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import NoReturn

from unpd.cli import dispatch
from unpd.dispatcher import processes, session, unforked
from unpd.dispatcher.session import SessionSetup


def parent_keeps_connection() -> None:
    """A dispatcher does not close its descriptor of a connection."""
    vars(unforked)["os"] = SimpleNamespace(**{**vars(os), "close": keep})


def child_keeps_listener() -> None:
    """A session closes none of the descriptors that it inherits."""
    vars(processes)["live"] = live


def keep(fd: int) -> None:
    """Do not close ``fd``."""


def live(setup: SessionSetup) -> NoReturn:
    """Live with everything that the dispatcher had open."""
    kernel = SimpleNamespace(close_all_but=keep_all)
    vars(session)["processes"] = kernel
    session.live(replace(setup, listeners=()))


def keep_all(kept: Iterable[int]) -> None:
    """Do not close the others."""


MISTAKES = {
    mistake.__name__: mistake for mistake in (parent_keeps_connection, child_keeps_listener)
}


if __name__ == "__main__":
    MISTAKES[sys.argv[1]]()
    sys.exit(dispatch.run_command(sys.argv[2:]))
