"""The commands that the table of verbs gives to the command line."""

from argparse import Namespace

import pytest

from unpd.cli.parser import make_parser
from unpd.cli.verbs import COMMANDS, request_of
from unpd.control.protocol import Request, decode_request, encode_request
from unpd.control.verbs import VERBS


def parse(*words: str) -> Namespace:
    """Return what ``unpd WORDS`` parses to."""
    return make_parser().parse_args(words)


def test_each_verb_has_its_command() -> None:
    """A verb that is added to one table and forgotten in the other fails here."""
    assert list(COMMANDS) == list(VERBS)
    assert len(set(COMMANDS.values())) == len(VERBS)


@pytest.mark.parametrize("name", list(VERBS))
def test_a_verb_without_options_asks_for_its_defaults(name: str) -> None:
    """Each verb is a command, and the daemon understands its request."""
    request = request_of(parse(name))
    defaults = {argument.name: argument.default for argument in VERBS[name].arguments}
    assert request == Request(name, defaults)
    assert decode_request(encode_request(request)) == request


def test_an_argument_is_an_option() -> None:
    """``--quick`` goes into the request."""
    assert request_of(parse("stop", "--quick")) == Request("stop", {"quick": True})


@pytest.mark.parametrize("name", list(VERBS))
def test_the_help_is_that_of_the_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of commands has the line of each verb, and the help of the verb has its
    description and the text of each argument.
    """
    assert VERBS[name].help in unwrapped("--help", capsys)
    shown = unwrapped(f"{name} --help", capsys)
    assert VERBS[name].description in shown
    for argument in VERBS[name].arguments:
        assert f"--{argument.name} {argument.help}" in shown


def unwrapped(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help that ``unpd WORDS`` prints, in one line."""
    with pytest.raises(SystemExit):
        parse(*words.split())
    return " ".join(capsys.readouterr().out.split())
