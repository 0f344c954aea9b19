"""The manual pages agree with the tables of the program."""

import argparse
import re
import runpy
from collections.abc import Iterator
from typing import Any

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tests.support import ROOT
from unpd.cli.doctor.report import FIELDS as REPORT
from unpd.cli.doctor.table import CHECKS
from unpd.cli.parser import make_parser, option_of
from unpd.config.access import Access, MaxPressure
from unpd.config.access_lists import AccessList
from unpd.config.control import Control
from unpd.config.foreign import INSTEAD, XINETD
from unpd.config.schema import COMMON_KEYS, Daemon, LogConfig, Metrics, Pool, ServiceConfig
from unpd.control.answer_fields import paths
from unpd.control.client_fields import DENIAL
from unpd.control.reload_fields import PREVIEW, RELOADED
from unpd.control.status_fields import STATUS
from unpd.control.verb import Verb
from unpd.control.verbs import VERBS
from unpd.log_events.table import EVENTS
from unpd.metrics.catalog.table import METRICS
from unpd.names import (
    END_MEANINGS,
    EXIT_MEANINGS,
    FAULT_MEANINGS,
    MASTER_SIGNALS,
    ClientExit,
    EndCause,
    Fault,
    Unanswered,
)
from unpd.services.program import ProgramLimits
from unpd.services.table import SERVICES

UNPD = (ROOT / "packaging/man/unpd.8").read_text()
TOML = (ROOT / "packaging/man/unpd.toml.5").read_text()
TABLES: dict[str, type[BaseModel]] = {
    "THE DAEMON": Daemon,
    "THE CONTROL SOCKET": Control,
    "THE LOG": LogConfig,
    "METRICS": Metrics,
    "ACCESS": Access,
    "POOLS": Pool,
}
KEYS = [
    (heading, key, field)
    for heading, model in TABLES.items()
    for key, field in model.model_fields.items()
]
COMMON = [("SERVICES", key, ServiceConfig.model_fields[key]) for key in COMMON_KEYS]
NO_VALUE = {
    ("THE DAEMON", "user"),
    ("THE DAEMON", "group"),
    ("THE CONTROL SOCKET", "read_group"),
    ("THE LOG", "file"),
    ("SERVICES", "type"),
    ("SERVICES", "listen"),
    ("SERVICES", "on_limit"),
    ("ACCESS", "state_file"),
}
"""Keys whose default stands in words, because it depends on something or is empty."""


def section(page: str, heading: str) -> str:
    """Return the text below a heading."""
    return page.split(f".Sh {heading}\n", 1)[1].split("\n.Sh ", 1)[0]


def items(text: str, macro: str) -> list[tuple[str, str]]:
    """Return the items of a list whose labels have this macro (or none), each with its
    text in one line.
    """
    pieces = (
        re.split(rf"^\.It {macro} ?", text, flags=re.MULTILINE)[1:]
        if macro
        else text.split("\n.It ")[1:]
    )
    return [
        (label.strip(), " ".join(body.split(".El")[0].split()))
        for label, _, body in (piece.partition("\n") for piece in pieces)
    ]


def commands(
    parser: argparse.ArgumentParser, *name: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command that takes no further command, by its whole name, with its own
    parser.
    """
    # argparse has no public way to its own actions.
    actions = parser._actions  # noqa: SLF001
    nested = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    if not nested:
        yield " ".join(name), parser
    for action in nested:
        for word, command in action.choices.items():
            yield from commands(command, *name, word)


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long options of one command but --help, which every command has."""
    return {
        option
        for action in parser._actions  # noqa: SLF001 - as above
        for option in action.option_strings
        if option.startswith("--")
    } - {"--help"}


def test_the_signals_are_those_of_the_table() -> None:
    """unpd(8) lists every signal that the master takes with its meaning, and no
    other.
    """
    assert items(section(UNPD, "SIGNALS").split(".El")[0], "Dv") == [
        (row.name, str(row.meaning)) for row in MASTER_SIGNALS
    ]


def test_the_exit_codes_are_those_of_the_table() -> None:
    """unpd(8) lists every exit code of the daemon with its meaning, and every one of
    the clients, and no other.
    """
    daemon, clients = section(UNPD, "EXIT STATUS").split(".Cm client\n")
    assert items(daemon.split(".El")[0], "") == [
        (str(int(code)), meaning) for code, meaning in EXIT_MEANINGS.items()
    ]
    assert [label for label, _ in items(clients, "")] == [str(int(code)) for code in ClientExit]


def test_the_environment_is_that_of_the_program() -> None:
    """unpd(8) names every variable that unpd reads, and no other; those of programs
    stand elsewhere.
    """
    modules = set((ROOT / "unpd").rglob("*.py")) - {ROOT / "unpd/dispatcher/environment.py"}
    sources = [path.read_text() for path in modules]
    read = {
        name
        for source in sources
        if "environ" in source
        for name in re.findall(r'"([A-Z][A-Z_]{4,})"', source)
    }
    labels = [label for label, _ in items(section(UNPD, "ENVIRONMENT"), "Ev")]
    named = [name for label in labels for name in label.split(" , ")]
    assert sorted(named) == sorted(read - {"PYDANTIC_DISABLE_PLUGINS"})  # unpd sets this one


def test_the_rfcs_are_those_of_the_services() -> None:
    """unpd(8) refers to the RFC of every built-in service, and the description of the
    packages names each service.
    """
    numbers = re.findall(r"^\.%R RFC (\d+)$", section(UNPD, "SEE ALSO"), re.MULTILINE)
    assert [int(number) for number in numbers] == sorted(
        row.rfc for row in SERVICES.values() if row.rfc
    )
    description = (ROOT / "packaging/nfpm.yaml").read_text().split("description: |\n")[1]
    words = re.findall(r"\w+", description.split("\numask:")[0])
    assert SERVICES.keys() - set(words) == set()


def test_the_synopsis_is_that_of_the_parser() -> None:
    """Every command stands in the synopsis of unpd(8) with exactly its options."""
    lines = section(UNPD, "SYNOPSIS").split(".Nm\n")[1:]
    shown = {
        " ".join(re.findall(r"^\.Cm (.+)$", line, re.MULTILINE)): set(
            re.findall(r"Fl (-[a-z-]+)", line)
        )
        for line in lines
    }
    assert shown.pop("") == {"-version"}
    assert shown == {
        name: {option.removeprefix("-") for option in options(parser)}
        for name, parser in commands(make_parser())
    }


def test_every_command_and_option_is_explained() -> None:
    """unpd(8) has an entry for each command and each option, and no other."""
    verbs, flags = section(UNPD, "DESCRIPTION").split("The options are:")
    every = dict(commands(make_parser()))
    assert [label for label, _ in items(verbs, "Cm")] == list(every)
    explained = {
        re.split(r" (?:Ar|Pq|Ns) ", label)[0].removeprefix("h , Fl ")
        for label, _ in items(flags, "Fl")
    }
    assert explained == {"-help", "-version"} | {
        option.removeprefix("-") for parser in every.values() for option in options(parser)
    }


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_a_verb_is_explained_as_in_its_table(verb: Verb) -> None:
    """unpd(8) has the description of each verb of a running daemon, and the text of
    each of its options, word for word.
    """
    verbs, flags = section(UNPD, "DESCRIPTION").split("The options are:")
    text = dict(items(verbs, "Cm"))[verb.name].partition(' .\\" End of')[0]
    assert text.replace("\\%", "").replace("\\-", "-") == verb.description
    for argument in verb.arguments + verb.options:
        if argument.operand or argument.internal:
            continue
        value = f" Ar {argument.placeholder}" if argument.placeholder else ""
        text = dict(items(flags, "Fl"))[f"{option_of(argument)[1:]}{value} Pq Cm {verb.name}"]
        text = text.partition(' .\\" End of')[0].replace("\\-", "-")
        assert text == f"{sentence(argument.help)}."


def test_the_fields_of_the_status_are_those_of_the_table() -> None:
    """unpd(8) lists every field of ``unpd status --json`` with its type, and no
    other.
    """
    assert [label for label, _ in items(section(UNPD, "STATUS"), "Va")] == [
        f"{path} Pq {row.type}" for path, row in paths(STATUS)
    ]


def test_the_page_lists_the_changes_of_a_reload() -> None:
    """RELOAD has an item for each field of the result, and of the preview."""
    assert [label for label, _ in items(section(UNPD, "RELOAD"), "Va")] == [
        f"{path} Pq {row.type}" for fields in (RELOADED, PREVIEW) for path, row in paths(fields)
    ]


def test_the_page_lists_the_checks_of_the_doctor() -> None:
    """DOCTOR has an item for each check, and for each field of the report."""
    text = section(UNPD, "DOCTOR")
    assert [label for label, _ in items(text, "Li")] == [check.name for check in CHECKS]
    assert [label for label, _ in items(text, "Va")] == [
        f"{path} Pq {row.type}" for path, row in paths(REPORT)
    ]


def test_the_page_lists_the_fields_of_a_denial() -> None:
    """LIVE DENIALS has an item for each field of a denial."""
    assert [label for label, _ in items(section(UNPD, "LIVE DENIALS"), "Va")] == [
        f"{path} Pq {row.type}" for path, row in paths(DENIAL)
    ]


def sentence(text: str) -> str:
    """Return the text with a capital at its beginning."""
    return text[0].upper() + text[1:]


def test_the_tables_of_the_page_are_new() -> None:
    """Each page holds exactly what ``make manual`` makes of the tables of the
    program.
    """
    made = runpy.run_path(str(ROOT / "packaging/manual.py"))
    assert made["renewed"](UNPD) == UNPD
    assert made["renewed"](TOML, made["TOML_PARTS"]) == TOML


def test_every_foreign_word_of_xinetd_is_explained() -> None:
    """With the advice that its use as a key gives."""
    text = section(TOML, "FROM XINETD")
    explained = {
        word: body.replace("\\%", "")
        for label, body in items(text, "Li")
        for word in label.split(" , ")
    }
    assert explained.keys() == {word for words, _ in XINETD for word in words.split()}
    assert {"only_from", "no_access", "per_source", "cps", "instances"} <= explained.keys()
    for word, body in explained.items():
        assert body.lower() == f"{INSTEAD[word]}.".lower()


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    """A comment that was lost from the page is an error, not a table that is missing
    for ever.
    """
    renewed = runpy.run_path(str(ROOT / "packaging/manual.py"))["renewed"]
    with pytest.raises(ValueError, match="no place for the metrics"):
        renewed(UNPD.replace('.\\" End of the metrics.\n', ""))


def listed(text: str) -> tuple[str, ...]:
    """The names of a list of fields or labels, as the page has it."""
    found = re.search(r"\.br (?:Fields|Labels): (.*)\.$", text)
    return tuple(found[1].replace("\\%", "").split(", ")) if found else ()


def test_the_log_events_are_those_of_the_table() -> None:
    """unpd(8) lists every event with its level and its fields, and no other."""
    explained = [
        (name, level, listed(text))
        for label, text in items(section(UNPD, "LOG EVENTS"), "Sy")
        for names, _, level in [label.partition(" Pq ")]
        for name in names.split(" , ")
    ]
    assert explained == [
        (
            row.name,
            f"{row.level} , debug unless {row.debug_unless}" if row.debug_unless else row.level,
            tuple(f"{name} (optional)" if name in row.optional else name for name in row.fields),
        )
        for row in EVENTS.values()
    ]


def test_the_metrics_are_those_of_the_catalog() -> None:
    """unpd(8) lists every metric with its type and its labels, and no other."""
    assert [(label, listed(text)) for label, text in items(section(UNPD, "METRICS"), "Sy")] == [
        (f"{row.name} Pq {type(row).__name__.lower()}", row.labels) for row in METRICS
    ]


def test_the_reasons_are_those_of_the_table() -> None:
    """unpd(8) lists every reason for which the daemon can be degraded, with its
    meaning, and no other.
    """
    listed_reasons = section(UNPD, "METRICS").split(".El")[0]
    assert items(listed_reasons, "Li") == [
        (str(fault), f"{sentence(meaning)}.") for fault, meaning in FAULT_MEANINGS.items()
    ]
    assert [*FAULT_MEANINGS] == [*Fault]


def test_the_end_causes_are_those_of_the_table() -> None:
    """unpd(8) lists every cause for which a connection ends, and no other."""
    listed_causes = section(UNPD, "METRICS").split("Made by make manual: the end causes")[1]
    assert [name for name, _ in items(listed_causes, "Li")] == [*END_MEANINGS]
    assert [*END_MEANINGS] == [*EndCause]


def explained_keys(heading: str) -> list[str]:
    """Return the keys that a section of unpd.toml(5) explains, in its order."""
    return [label for label, _ in items(section(TOML, heading), "Cm")]


@pytest.mark.parametrize(("heading", "model"), TABLES.items())
def test_each_key_of_a_table_is_explained(heading: str, model: type[BaseModel]) -> None:
    """unpd.toml(5) explains each key of each table, and no other."""
    assert explained_keys(heading) == list(model.model_fields)


def test_each_key_of_services_is_explained() -> None:
    """unpd.toml(5) explains each key that every service has, and once each key that
    only one type has, or two, and no other.
    """
    own = {key for row in SERVICES.values() for key in row.options.model_fields}
    assert sorted(explained_keys("SERVICES")) == sorted([*COMMON_KEYS, *own])


@pytest.mark.parametrize(
    ("heading", "key", "field"),
    KEYS + COMMON,
    ids=[f"{heading}-{key}" for heading, key, _ in KEYS + COMMON],
)
def test_a_key_has_its_default_and_its_range(heading: str, key: str, field: FieldInfo) -> None:
    """unpd.toml(5) gives the default of each key and the bounds of its values."""
    text = dict(items(section(TOML, heading), "Cm"))[key]
    bounds: list[Any] = [rule.ge for rule in field.metadata if isinstance(rule, annotated_types.Ge)]
    bounds += [rule.le for rule in field.metadata if isinstance(rule, annotated_types.Le)]
    assert all(re.search(rf"\b{re.escape(str(bound))}\b", text) for bound in bounds)
    assert "Default: " in text
    if (heading, key) not in NO_VALUE:
        assert re.search(rf"Default: {re.escape(written(key, field.default))}( |$)", text), text


def written(key: str, default: Any) -> str:
    """Return a default as the page writes it: as in the file, without quotes."""
    if key == "socket_mode":
        return f"{default:04o}"
    if isinstance(default, AccessList):
        return ", ".join(default.texts) or "none"
    if isinstance(default, MaxPressure | ProgramLimits) or default is PydanticUndefined:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if default in ("", (), {}):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(getattr(default, "text", default))


@pytest.mark.parametrize(
    ("service", "key"),
    [(name, key) for name, row in SERVICES.items() for key in row.options.model_fields],
)
def test_an_own_key_has_its_default(service: str, key: str) -> None:
    """unpd.toml(5) gives the default of each key that only one type of service has."""
    default = SERVICES[service].options.model_fields[key].default
    assert (
        f"Default: {'none' if default == () else written(key, default)}"
        in dict(items(section(TOML, "SERVICES"), "Cm"))[key]
    )


def test_the_keys_that_need_a_restart_are_marked() -> None:
    """unpd.toml(5) marks exactly the keys that a reload cannot change, as the shipped
    file does.
    """
    marked = {
        (heading, key)
        for heading, key, _ in KEYS
        if "Needs a restart" in dict(items(section(TOML, heading), "Cm"))[key]
    }
    assert marked == {("THE DAEMON", key) for key in ("user", "group", "pid_file", "control")} | {
        ("THE LOG", key) for key in ("format", "file")
    }


def test_the_manual_names_every_reason_for_no_answer() -> None:
    """The section on datagrams has each reason of the counter, and each key."""
    text = UNPD.split("\n.Ss Datagrams\n", 1)[1].split("\n.Ss ", 1)[0]
    words = set(re.findall(r"\w+", text))
    assert {reason.value for reason in Unanswered} <= words
    assert {"amplification", "datagram_rate", "datagram_total_rate"} <= words
