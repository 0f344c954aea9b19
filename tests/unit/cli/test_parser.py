"""The commands that the table of verbs gives to the command line."""

from argparse import Namespace
from pathlib import Path

import pytest

from unpd.cli.asking import request_of
from unpd.cli.parser import make_parser, option_of
from unpd.cli.parser import parse as command_line
from unpd.cli.verbs import COMMANDS
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
    """Each verb is a command with its operands, and the daemon understands its
    request.
    """
    values = {"condition": "drained", "level": "debug", "workers": "3"}
    operands = {
        argument.name: values.get(argument.name, "::1")
        for argument in VERBS[name].arguments
        if argument.operand
    }
    everything = {"all": True} if name == "kick" else {}  # it asks for a choice
    options = [f"--{option}" for option in everything]
    request = request_of(parse(name, "--control", "there", *operands.values(), *options))
    defaults = {argument.name: argument.default for argument in VERBS[name].arguments}
    assert request == Request(name, {**defaults, **operands, **everything})
    assert decode_request(encode_request(request)) == request


def test_an_argument_is_an_option() -> None:
    """``--quick`` goes into the request."""
    words = ("stop", "--quick", "--control", "there")
    assert request_of(parse(*words)) == Request("stop", {"quick": True})


def test_a_text_is_an_option_or_an_operand() -> None:
    """Its value goes into the request as it was written."""
    words = ("deny", "--for", "10m", "192.0.2.0/24", "--why", "a scan", "--control", "there")
    values = {"network": "192.0.2.0/24", "for": "10m", "why": "a scan", "kick": False}
    assert request_of(parse(*words)) == Request("deny", values)


def test_an_internal_argument_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The command gives it."""
    assert request_of(parse("denied", "--control", "x")) == Request("denied", {"after": None})
    with pytest.raises(SystemExit):
        command_line(["denied", "--after", "::1"])
    assert "unrecognized arguments: --after" in capsys.readouterr().err


def test_a_request_names_the_configuration(tmp_path: Path) -> None:
    """With --config the request has every absolute name of the file; with --control it
    has none, for nobody named a file.
    """
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "unpd.toml")
    names = (str(link), str((tmp_path / "unpd.toml").resolve()))
    assert request_of(parse("stop", "--config", str(link))).config == names
    assert request_of(parse("stop", "--control", str(link))).config == ()


@pytest.mark.parametrize(
    ("words", "usage", "sentence"),
    [
        ("check a.toml", "check", "a.toml; to name a configuration file, write --config a.toml"),
        ("run a.toml", "run", "a.toml; to name a configuration file, write --config a.toml"),
        ("reload a b", "reload", "a b; to name a configuration file, write --config a"),
        ("check --bad", "check", "--bad"),
        ("client echo h 7 8", "client echo", "8"),
        ("stop \x1b[2J", "stop", r"\x1b[2J; to name a configuration file, write --config \x1b[2J"),
    ],
)
def test_arguments_too_many_get_the_usage_of_the_command(
    words: str, usage: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message ends with the right form, if the argument looks like a file."""
    with pytest.raises(SystemExit) as ended:
        command_line(words.split(" "))
    assert ended.value.code == 2
    first, *between, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"usage: unpd {usage} [-h]")
    assert all(line.startswith(" ") for line in between), "more than the usage"
    assert last == f"unpd {usage}: error: unrecognized arguments: {sentence}"


@pytest.mark.parametrize(
    ("words", "usage", "sentence"),
    [
        (
            ["--config", "f", "check"],
            "",
            "--config follows the command: write unpd COMMAND --config ...",
        ),
        (
            ["--control=x", "stop"],
            "",
            "--control follows the command: write unpd COMMAND --control ...",
        ),
        (["--udp"], "", "--udp follows the command: write unpd COMMAND --udp ..."),
        (["--builtin"], "", "--builtin follows the command: write unpd run --builtin ..."),
        (["--size=9"], "", "--size follows the command: write unpd client echo --size ..."),
        (
            ["-V"],
            "",
            "unrecognized arguments: -V; unpd itself takes --help and --version",
        ),
        (
            ["-v", "run"],
            "",
            "unrecognized arguments: -v; unpd itself takes --help and --version",
        ),
        (
            ["--verbose=3", "run"],
            "",
            "unrecognized arguments: --verbose; unpd itself takes --help and --version",
        ),
        (["status", "--control", ""], " status", "argument --control: the path is empty"),
        (["check", "--config", ""], " check", "argument --config: the path is empty"),
        (["undeny"], " undeny", "the following arguments are required: CIDR"),
        (
            ["deny", "192.0.2.7/24"],
            " deny",
            (
                'argument CIDR: "192.0.2.7/24" has bits beyond its prefix length: write'
                ' "192.0.2.0/24" for the network, or "192.0.2.7" for the address'
            ),
        ),
        (
            ["deny", "::1", "--for", "10"],
            " deny",
            'argument --for: "10" has no unit: write one of 10s, 10m, 10h, 10d',
        ),
        (
            ["deny", "::1", "--why", "x" * 201],
            " deny",
            "argument --why: the reason is longer than 200 characters",
        ),
        (
            ["explain", "192.0.2.300", "echo"],
            " explain",
            (
                'argument ADDRESS: "192.0.2.300" must be an address such as "192.0.2.1" or'
                ' "2001:db8::1", "unix", or "uid:NAME"'
            ),
        ),
        (
            ["explain", "192.0.2.0/24", "echo"],
            " explain",
            'argument ADDRESS: "192.0.2.0/24" is a network: name one address of it',
        ),
        (
            ["kick", "--dry-run"],
            " kick",
            "name what to end, by --service, --peer or --older; --all ends every connection",
        ),
        (
            ["wait", "ready", "echo"],
            " wait",
            'ready is about the whole daemon: leave "echo" out, or wait for drained echo',
        ),
        (
            ["log-level", "configured", "--for", "1m"],
            " log-level",
            "configured holds for good: leave --for out, or name a level",
        ),
    ],
)
def test_an_argument_that_cannot_be_meant(
    words: list[str], usage: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option before the command is not taken for the command, nor advised where no
    command takes it; an empty path not for the working directory; and a text is checked
    before any daemon is asked, and so are arguments that contradict each other.
    """
    with pytest.raises(SystemExit) as ended:
        command_line(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"unpd{usage}: error: {sentence}"


@pytest.mark.parametrize("word", ["abc", "-3", "0", "1.5", "99999999", "a.toml", "²", ""])
def test_a_daemon_is_named_by_its_pid(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is wrong usage: a pid of 0 or below names no process, and a file is
    named with --config.
    """
    with pytest.raises(SystemExit) as ended:
        command_line(["check", f"--as-daemon={word}"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{word!r} is no pid: give the number of the daemon's main process" in last
    assert "write --config FILE" in last


@pytest.mark.parametrize("name", list(VERBS))
def test_the_help_is_that_of_the_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of commands has the line of each verb, and the help of the verb has its
    description and the text of each argument.
    """
    assert VERBS[name].help in unwrapped("--help", capsys)
    shown = unwrapped(f"{name} --help", capsys)
    assert VERBS[name].description.replace("- ", "-") in shown
    for argument in VERBS[name].arguments + VERBS[name].options:
        words = [] if argument.operand else [option_of(argument)]
        words += [argument.placeholder] if argument.placeholder else []
        text = " ".join([*words, argument.help]).replace("- ", "-")
        assert (text in shown) is not argument.internal


def unwrapped(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help that ``unpd WORDS`` prints, in one line. argparse also breaks
    lines after a hyphen.
    """
    with pytest.raises(SystemExit):
        parse(*words.split())
    return " ".join(capsys.readouterr().out.split()).replace("- ", "-")


@pytest.mark.parametrize("interval", ["0", "nan", "1e9", "often"])
def test_the_interval_of_top_has_bounds(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says which."""
    with pytest.raises(SystemExit) as ended:
        command_line(["top", "--interval", interval])
    assert ended.value.code == 2
    complaint = f"{interval!r} is no number of seconds from 0.1 to 3600\n"
    assert capsys.readouterr().err.endswith(complaint)
