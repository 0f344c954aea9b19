"""What a reload that succeeded has changed, for its answer and its log line.

Made by the performers, and kept in :class:`unpd.master.runtime.Runtime`. The fields of
the answer are those of :data:`unpd.control.reload_fields.CHANGES`, which a test
compares. Pure. Raises nothing.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from unpd.config.differences import KeyChange, changed_keys
from unpd.config.schema import Config
from unpd.core.model import PoolChange
from unpd.master.listening.listener import OpenListener
from unpd.names import PoolOutcome

LISTED = 16
"""How many names a field of the log line has at most."""


def listed(names: Collection[str]) -> str:
    """The names for one field of a log line."""
    shown = ", ".join(list(names)[:LISTED])
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown


def pool_fields(change: PoolChange) -> dict[str, Any]:
    """What became of one pool, as JSON values."""
    return {
        "kind": str(change.kind),
        "pool": change.pool,
        "outcome": str(change.outcome),
        "children": change.children,
        "generation": change.generation,
    }


def _only_in(names: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The keys that differ, the pools of both configurations, the names of services,
    and the addresses of listeners.
    """

    pools: tuple[PoolChange, ...] = ()
    services_added: tuple[str, ...] = ()
    services_removed: tuple[str, ...] = ()
    listeners_opened: tuple[str, ...] = ()
    listeners_closed: tuple[str, ...] = ()
    keys: tuple[KeyChange, ...] = ()

    @classmethod
    def between(
        cls,
        configs: tuple[Config, Config],
        opened: tuple[dict[str, OpenListener], dict[str, OpenListener]],
    ) -> Self:
        """What differs between two configurations and their open listeners, the old
        ones first. The core adds the pools.
        """
        old, new = (config.services.keys() for config in configs)
        before, after = ({one.text: None for one in some.values()} for some in opened)
        return cls(
            keys=changed_keys(*configs),
            services_added=_only_in(new, old),
            services_removed=_only_in(old, new),
            listeners_opened=_only_in(after, before),
            listeners_closed=_only_in(before, after),
        )

    def pools_with(self, *outcomes: PoolOutcome) -> str:
        """The names of the pools with one of these outcomes, for the log."""
        return listed([change.pool for change in self.pools if change.outcome in outcomes])

    def fields(self, generation: int) -> dict[str, Any]:
        """The fields of the answer."""
        changes = {
            "keys": [asdict(change) for change in self.keys],
            "pools": [pool_fields(change) for change in self.pools],
            "services_added": list(self.services_added),
            "services_removed": list(self.services_removed),
            "listeners_opened": list(self.listeners_opened),
            "listeners_closed": list(self.listeners_closed),
        }
        return {"generation": generation, "changes": changes}
