"""Importing a library without what it brings for uses that are not ours.

Every process of the daemon holds what its libraries imported, and the start waits for it. So a few modules that a library imports for functions that unpd never calls are
replaced while it is imported: a TLS library, web servers, package metadata. Each use says which, why, and what it saves; nothing else may then be asked of that library.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping

_OWN_HASHES = ("_md5", "_sha1", "_sha3", "_blake2", *(("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")))


class StandIn(types.ModuleType):
    """A module that has every name: enough to be imported from, to be a base, and to be asked for a collection, which is empty."""

    def __getattr__(self, name: str) -> type:
        """A class; a call of it gives ()."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__new__": lambda _, *__, **___: ()})


@contextlib.contextmanager
def replaced(modules: Mapping[str, types.ModuleType | None]) -> Iterator[None]:
    """Import something with these instead of the modules of their names, but those that are there already. None: as if it were not installed."""
    ours = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(ours)  # type: ignore[arg-type]  # None is what the import system takes for "not there"
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]


def without_openssl() -> Mapping[str, None]:
    """To be :func:`replaced` so that hashlib takes the interpreter's own hash functions, where it has them all (some distributions leave them out): 1.9 MB less."""
    return {"_hashlib": None} if all(importlib.util.find_spec(name) for name in _OWN_HASHES) else {}
