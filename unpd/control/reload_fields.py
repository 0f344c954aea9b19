"""The fields of what ``unpd reload --json`` prints, one row each, with and without
--dry-run (:mod:`unpd.control.status_fields`).
"""

from unpd.control.status_fields import CHANGES, SCHEMA, StatusField
from unpd.names import ChildKind, ReloadResult

RELOADED = (
    StatusField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    StatusField("result", "text", f"{' or '.join(ReloadResult)}."),
    StatusField("reason", "text", "Why the reload was refused; empty after a success."),
    StatusField(
        "generation",
        "integer",
        "The generation that serves now.",
        "the reload was refused",
    ),
    StatusField("changes", "object", "What was changed.", "the reload was refused", CHANGES),
    StatusField("log", "list", "The lines that the main process logged meanwhile."),
    StatusField("log_left_out", "integer", "How many lines of them are left out."),
)
"""What ``unpd reload --json`` prints."""
_KEYS = (
    StatusField("key", "text", "The key, such as daemon.grace_s."),
    StatusField("before", "text", "Its value, as TOML; empty for none."),
    StatusField("after", "text", "The value in the file; empty for none."),
)
_REPLACED = (
    StatusField("kind", "text", f"{' or '.join(ChildKind)}."),
    StatusField("pool", "text", "The name of its pool."),
    StatusField("index", "integer", "Its place in the pool, from 0."),
    StatusField(
        "service",
        "text",
        "The service that it alone serves.",
        "every child of this kind in the pool serves the same",
    ),
    StatusField("pid", "integer", "The process.", "it has just been reaped"),
    StatusField("connections", "integer", "How many connections it has now."),
    StatusField(
        "drain_s",
        "number",
        "For how many seconds these may go on.",
        "for as long as they last",
    ),
)
PREVIEW = (
    StatusField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    StatusField("generation", "integer", "The generation that serves now."),
    StatusField("warnings", "list", "The warnings about the file."),
    StatusField(
        "restart",
        "list",
        "The keys that only a restart can change; a reload is refused because of them.",
    ),
    StatusField("keys", "list", "The keys that differ.", fields=_KEYS),
    StatusField("services_added", "list", "The names of the services that would come."),
    StatusField("services_removed", "list", "The names of those that would go."),
    StatusField("services_changed", "list", "The names of those with keys that differ."),
    StatusField("listeners_opened", "list", "The addresses that would be opened."),
    StatusField("listeners_closed", "list", "The addresses that would be closed."),
    StatusField("listeners_changed", "list", "The addresses with other options."),
    StatusField("pools", "list", "What would become of each pool.", fields=CHANGES[0].fields),
    StatusField(
        "replaced", "list", "The processes that would be replaced or end.", fields=_REPLACED
    ),
)
"""The fields of ``preview`` in the answer to ``reload`` with ``dry_run``."""
