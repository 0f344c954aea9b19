"""The table of verbs, and the check of a request against it."""

import re
from typing import Any

import pytest

from unpd.control.protocol import RESERVED
from unpd.control.verb import TYPES, Argument, VerbError, checked
from unpd.control.verbs import VERBS, find


@pytest.mark.parametrize("name", list(VERBS))
def test_a_verb_is_found_by_its_name(name: str) -> None:
    """Each row stands under its own name, and has its texts: a line in lower case, and
    whole sentences.
    """
    verb = find(name)
    assert verb is VERBS[name]
    assert verb.name == name
    assert verb.help[0].islower()
    assert not verb.help.endswith(".")
    assert verb.description[0].isupper()
    assert verb.description.endswith(".")


@pytest.mark.parametrize("name", ["restart", "", "STOP", None, 1, True, ["stop"], {"stop": 1}])
def test_an_unknown_verb_is_refused_with_the_names_of_all(name: object) -> None:
    """Nothing but a name of the table is a verb."""
    with pytest.raises(VerbError, match=rf"^the verb must be one of {', '.join(VERBS)}$"):
        find(name)


ARGUMENTS = [argument for verb in VERBS.values() for argument in verb.arguments]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=[argument.name for argument in ARGUMENTS])
def test_an_argument_can_be_sent_and_shown(argument: Argument) -> None:
    """Its name is free in a request, its type has a word, and its default has the type;
    a text may be left out, and has a placeholder.
    """
    assert argument.name.isidentifier()
    assert argument.name not in RESERVED
    assert argument.type in TYPES
    is_text = argument.type is str
    assert type(argument.default) is argument.type or (is_text and argument.default is None)
    assert bool(argument.placeholder) is is_text
    assert argument.help[0].islower()


def test_a_missing_argument_has_its_default() -> None:
    """Every argument of the verb has a value after the check."""
    assert checked(VERBS["stop"], {}) == {"quick": False}
    assert checked(VERBS["stop"], {"quick": True}) == {"quick": True}
    assert checked(VERBS["workers"], {}) == {}
    assert checked(VERBS["deny"], {"network": "::1"}) == {
        "network": "::1",
        "for": None,
        "why": None,
        "kick": False,
    }


@pytest.mark.parametrize("value", [1, 0, None, "yes", [], {}])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    """One sentence says which argument, and what would be right."""
    with pytest.raises(VerbError, match=r"^quick must be true or false$"):
        checked(VERBS["stop"], {"quick": value})


@pytest.mark.parametrize("value", [1, True, ["::1"], {}, None])
def test_a_text_that_is_none_is_refused(value: object) -> None:
    """An operand is needed; an option may be left out."""
    with pytest.raises(VerbError, match=r"^network must be text$"):
        checked(VERBS["deny"], {"network": value})
    if value is not None:
        with pytest.raises(VerbError, match=r"^why must be text$"):
            checked(VERBS["deny"], {"network": "::1", "why": value})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "network must be text"),
        ({"network": ""}, '"" must be an address such as'),
        ({"network": "nowhere"}, '"nowhere" '),
        ({"network": "192.0.2.7/24"}, '"192.0.2.7/24" has bits beyond its prefix length: write'),
        ({"network": "::1", "for": ""}, '"" is no time: write a whole number and a unit'),
        ({"network": "::1", "for": "10"}, '"10" has no unit: write one of 10s, 10m, 10h, 10d'),
        ({"network": "::1", "why": "a\nb"}, "the reason must be one line"),
        ({"network": "::1", "why": "x" * 201}, "the reason is longer than 200 characters"),
    ],
)
def test_a_text_is_checked(values: dict[str, str], sentence: str) -> None:
    """The daemon does not trust the command line to have checked it."""
    with pytest.raises(VerbError) as refused:
        checked(VERBS["deny"], values)
    assert str(refused.value).startswith(sentence)


def test_a_condition_that_is_none_is_refused() -> None:
    """With those that there are."""
    sentence = "'ready?' is nothing to wait for: write one of ready, reloaded, drained"
    with pytest.raises(VerbError, match=f"^{re.escape(sentence)}$"):
        checked(VERBS["wait"], {"condition": "ready?"})
    with pytest.raises(VerbError, match=r"^\"x\" is no time"):
        checked(VERBS["wait"], {"condition": "ready", "timeout": "x"})


@pytest.mark.parametrize(
    ("verb", "values", "sentence"),
    [
        ("kick", {}, "name what to end, by --service, --peer or --older; "),
        ("kick", {"dry_run": True}, "name what to end"),
        ("kick", {"service": ""}, "name what to end"),
        ("wait", {"condition": "ready", "service": "echo"}, "ready is about the whole daemon: "),
        ("wait", {"condition": "reloaded", "service": "echo"}, "reloaded is about the whole"),
        ("log-level", {"level": "configured", "for": "1m"}, "configured holds for good: "),
        ("explain", {"peer": "::1/64", "service": "echo"}, '"::1/64" '),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    verb: str, values: dict[str, Any], sentence: str
) -> None:
    """By the daemon too, whatever the command line has checked."""
    with pytest.raises(VerbError) as refused:
        checked(VERBS[verb], values)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("kick", {"older": "1h"}),
        ("kick", {"all": True}),
        ("wait", {"condition": "drained", "service": "echo"}),
        ("log-level", {"level": "debug", "for": "1m"}),
        ("log-level", {"level": "configured"}),
        ("explain", {"peer": "uid:nobody-of-this-host", "service": "echo"}),
        ("explain", {"peer": "unix", "service": "echo"}),
    ],
)
def test_arguments_that_can_be_meant_together(verb: str, values: dict[str, Any]) -> None:
    """A user is looked up by the daemon alone, not by the host of the command."""
    assert checked(VERBS[verb], values).items() >= values.items()


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        ("stop", "unknown argument 'fast': stop takes only quick"),
        ("reload", "unknown argument 'fast': reload takes only all, dry_run"),
        ("workers", "unknown argument 'fast': workers takes no argument"),
        ("undeny", "unknown argument 'fast': undeny takes only network"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_known_ones(verb: str, sentence: str) -> None:
    """A misspelt argument must not mean its default."""
    with pytest.raises(VerbError, match=f"^{sentence}$"):
        checked(VERBS[verb], {"fast": True})
