"""The verbs of the control socket: one table.

Read by the protocol (which checks requests against it), the master's orders, the
command line (and so the shell completions, which are made from its parser), ``make
manual``, and by tests that compare the tables of functions with it. Its rows are in the
modules that it calls, by topic.

Errors: VerbError.
"""

from collections.abc import Mapping
from types import MappingProxyType

from unpd.control import change_verbs, client_verbs, life_verbs, service_verbs
from unpd.control.verb import Verb, VerbError

VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        verb.name: verb
        for verb in (
            *life_verbs.ROWS,
            *client_verbs.ROWS,
            *change_verbs.ROWS,
            *service_verbs.ROWS,
        )
    }
)
"""The table, by name, in the order in which people read it."""


def find(name: object) -> Verb:
    """Return the verb of this name. VerbError, with the names of all verbs, if no verb
    has it.
    """
    verb = VERBS.get(name) if isinstance(name, str) else None
    if verb is None:
        raise VerbError(f"the verb must be one of {', '.join(VERBS)}")
    return verb
