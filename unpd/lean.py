"""Importing a library without what it brings for uses that are not ours.

Every process of the daemon holds what its libraries imported, and the start waits for
it. So a few modules that a library imports for functions that unpd never calls are
replaced while it is imported: a TLS library, web servers, hashes, package metadata.
Each use says which, why, and what it saves; nothing else may then be asked of that
library.
"""

import contextlib
import sys
import types
from collections.abc import Iterator


class StandIn(types.ModuleType):
    """A module that has every name: enough to be imported from, to be a base, and to be
    asked for a collection, which is empty.
    """

    def __getattr__(self, name: str) -> type:
        """A class; a call of it gives ()."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__new__": lambda _, *__, **___: ()})


@contextlib.contextmanager
def replaced(*names: str) -> Iterator[None]:
    """Import something with stand-ins for the modules of these names, but those that
    are there already.
    """
    ours = {name: StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]
