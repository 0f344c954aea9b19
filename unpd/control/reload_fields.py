"""The fields of what ``unpd reload --json`` prints, one row each, with and without
--dry-run (:mod:`unpd.control.answer_fields`).
"""

from unpd.control.answer_fields import SCHEMA, AnswerField
from unpd.names import ChildKind, PoolOutcome, ReloadResult

_POOLS = (
    AnswerField("kind", "text", f"{' or '.join(ChildKind)}."),
    AnswerField("pool", "text", "The name of the pool."),
    AnswerField("outcome", "text", f"{', '.join(PoolOutcome)}."),
    AnswerField("children", "integer", "How many processes of this kind it wants now."),
    AnswerField("generation", "integer", "The generation of the pool."),
)
_KEYS = (
    AnswerField("key", "text", "The key, such as daemon.grace_s."),
    AnswerField("before", "text", "Its value, as TOML; empty for none."),
    AnswerField("after", "text", "The value in the file; empty for none."),
)
CHANGES = (
    AnswerField("keys", "list", "The keys that differ.", fields=_KEYS),
    AnswerField("pools", "list", "The pools of the old and of the new file.", fields=_POOLS),
    AnswerField("services_added", "list", "The names of the services that were added."),
    AnswerField("services_removed", "list", "The names of those that were removed."),
    AnswerField("listeners_opened", "list", "The addresses that were opened."),
    AnswerField("listeners_closed", "list", "The addresses that were closed."),
)
"""The fields of ``changes`` in the answer to ``reload``."""
RELOADED = (
    AnswerField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    AnswerField("result", "text", f"{' or '.join(ReloadResult)}."),
    AnswerField("reason", "text", "Why the reload was refused; empty after a success."),
    AnswerField(
        "generation",
        "integer",
        "The generation that serves now.",
        "the reload was refused",
    ),
    AnswerField("changes", "object", "What was changed.", "the reload was refused", CHANGES),
    AnswerField("log", "list", "The lines that the main process logged meanwhile."),
    AnswerField("log_left_out", "integer", "How many lines of them are left out."),
)
"""What ``unpd reload --json`` prints of a reload that has begun."""
_REPLACED = (
    AnswerField("kind", "text", f"{' or '.join(ChildKind)}."),
    AnswerField("pool", "text", "The name of its pool."),
    AnswerField("index", "integer", "Its place in the pool, from 0."),
    AnswerField(
        "service",
        "text",
        "The service that it alone serves.",
        "every child of this kind in the pool serves the same",
    ),
    AnswerField("pid", "integer", "The process.", "it has just been reaped"),
    AnswerField("connections", "integer", "How many connections it has now."),
    AnswerField(
        "drain_s",
        "number",
        "For how many seconds these may go on.",
        "for as long as they last",
    ),
)
PREVIEW = (
    AnswerField("schema", "integer", f"The number of this list of fields: {SCHEMA}."),
    AnswerField(
        "result",
        "text",
        f"{' or '.join(ReloadResult)}: what a reload would come to, as far as can be known.",
    ),
    AnswerField(
        "reason",
        "text",
        "Why a reload would be refused, empty if it would not. After a refusal of the file the"
        " lists that follow are empty, but for restart.",
    ),
    AnswerField("generation", "integer", "The generation that serves now."),
    AnswerField("warnings", "list", "The warnings about the file."),
    AnswerField(
        "restart",
        "list",
        "The keys that only a restart can change; a reload is refused because of them.",
    ),
    AnswerField("keys", "list", "The keys that differ.", fields=_KEYS),
    AnswerField("services_added", "list", "The names of the services that would come."),
    AnswerField("services_removed", "list", "The names of those that would go."),
    AnswerField("services_changed", "list", "The names of those with keys that differ."),
    AnswerField("listeners_opened", "list", "The addresses that would be opened."),
    AnswerField("listeners_closed", "list", "The addresses that would be closed."),
    AnswerField("listeners_changed", "list", "The addresses with other options."),
    AnswerField("pools", "list", "What would become of each pool.", fields=_POOLS),
    AnswerField(
        "replaced", "list", "The processes that would be replaced or end.", fields=_REPLACED
    ),
)
"""The fields of ``preview`` in the answer to ``reload`` with ``dry_run``."""
