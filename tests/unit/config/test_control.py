"""The table [control]: the group that may look."""

import grp
from collections.abc import Callable
from dataclasses import replace

import pytest

from unpd.config.control import ReadGroup
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.plan import effective

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
FORM = 'must be the name or the number of a group as a string, such as "adm" or "4", or "" for none'


def readers(value: str) -> str:
    """A configuration with this read_group."""
    return f"[control]\nread_group = {value}\n{ECHO}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ECHO, None),
        (readers('""'), None),
        (readers('"4242"'), ReadGroup("4242", 4242)),
        (readers(f'"{grp.getgrgid(0).gr_name}"'), ReadGroup(grp.getgrgid(0).gr_name, 0)),
    ],
)
def test_a_group_is_known_by_its_name_or_number(
    accept: Accept, text: str, found: ReadGroup | None
) -> None:
    """A number needs no entry in the group database."""
    assert accept(text).config.control.read_group == found


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('"no-such-group"', 'there is no group "no-such-group" on this system'),
        ('"4294967295"', "the number of a group is at most 4294967294"),
        ('"a b"', FORM),
        ("4", FORM),
        ("[]", FORM),
    ],
)
def test_an_unknown_group_refuses_the_configuration(
    refuse: Refuse, value: str, sentence: str
) -> None:
    """The sentence says what would be right, with the key and its line."""
    assert refuse(readers(value)) == [f"unpd.toml:2: control.read_group: {sentence}"]


def test_the_effective_configuration_names_the_group(accept: Accept, host: Host) -> None:
    """Loading it gives an equal configuration."""
    config = accept(readers('"4242"')).config
    assert '[control]\nread_group = "4242"\n' in effective(config)
    assert loads(effective(config), host).config == config
    assert "[control]" not in effective(accept(ECHO).config)


def test_a_group_that_may_do_everything_has_a_warning(host: Host) -> None:
    """That of the socket's file: its members are not kept to looking."""
    text = readers('"4242"')
    (warning,) = loads(text, replace(host, gid=4242)).warnings
    assert warning.startswith(
        'unpd.toml:2: control.read_group: "4242" is the group of the control socket too'
    )
    assert loads(text, replace(host, gid=4243)).warnings == ()
