"""The parser of the command line: every command with its options and texts.

Called by dispatch, by the build of the shell completions, and by the tests that compare
the manual page with it. The verbs of a running daemon come from
:data:`unpd.control.verbs.VERBS`, the signals and exit codes from :mod:`unpd.names`.
Runs nothing. Errors: wrong usage ends the process with code 2 and the usage of the
command, and ``--help`` with code 0; both print through :mod:`unpd.cli.output`.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from unpd import __version__
from unpd.cli import client, output
from unpd.control.verb import Argument, Verb
from unpd.control.verbs import VERBS
from unpd.names import EXIT_MEANINGS, MASTER_SIGNALS, MAX_PID

CONTROL_FROM = "the configuration file that names the control socket (default: as for run)"
"""What --config means to a command that asks a daemon."""
_WITHOUT_COMMAND = ("-h", "--help", "--version", "--")

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class Parser(argparse.ArgumentParser):
    """A parser that prints through :mod:`unpd.cli.output`: argparse itself ends with a
    trace, or with code 0, where it cannot write.
    """

    def print_help(self, file: Any = None) -> None:
        """Print the help on standard output."""
        del file
        if not output.show(self.format_help()):
            sys.exit(1)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message on standard error, and end with code 2."""
        output.complain(f"{self.format_usage()}{self.prog}: error: {message}", name="")
        sys.exit(2)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments that ``words`` mean. Wrong usage ends the process."""
    parser = make_parser()
    if words and words[0].startswith("-") and words[0] not in _WITHOUT_COMMAND:
        parser.error(_misplaced(words[0].partition("=")[0], parser))
    args, left = parser.parse_known_args(words)
    if left:
        args.parser.error(_not_taken(left, takes_config=hasattr(args, "config")))
    if args.command in VERBS:
        verb = VERBS[args.command]
        try:
            verb.check(values_of(verb, args))
        except ValueError as error:
            args.parser.error(str(error))
    return args


def values_of(verb: Verb, args: argparse.Namespace) -> dict[str, Any]:
    """The value of each argument of the verb."""
    return {argument.name: getattr(args, argument.name) for argument in verb.arguments}


def _misplaced(option: str, parser: argparse.ArgumentParser) -> str:
    """Return the message about an option that stands where the command should."""
    found = list(_commands_with(option, parser))
    if not found:
        return f"unrecognized arguments: {option}; unpd itself takes --help and --version"
    command = found[0] if len(found) == 1 else "unpd COMMAND"
    return f"{option} follows the command: write {command} {option} ..."


def _commands_with(option: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the words of each command below ``parser`` that takes the option."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to them
        if isinstance(action, _Commands):
            for command in action.choices.values():
                if option in command._option_string_actions:  # noqa: SLF001 - as above
                    yield command.prog
                yield from _commands_with(option, command)


def _not_taken(left: Sequence[str], *, takes_config: bool) -> str:
    """Return the message about arguments that the command does not take."""
    message = f"unrecognized arguments: {' '.join(left)}"
    if takes_config and not left[0].startswith("-"):
        message += f"; to name a configuration file, write --config {left[0]}"
    return message


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``unpd``. ``command`` is the name of the command that it
    found, ``parser`` the parser of that command.
    """
    parser: argparse.ArgumentParser = Parser(
        prog="unpd",
        description="A preforking super-server for the classic small Internet services.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unpd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_start(commands)
    commands.add_parser(
        "services",
        help="list the service types",
        allow_abbrev=False,
        description="List the service types of unpd and of other packages.",
    )
    _add_install_units(commands)
    _add_doctor(commands)
    for verb in VERBS.values():
        _add_verb(commands, verb)
    _add_top(commands)
    client.add_arguments(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_run(commands: "_Commands[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="serve in the foreground",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_tables(),
        description="Serve in the foreground until a signal says stop.",
    )
    _add_config(
        run,
        "the configuration file (default: /etc/unpd/unpd.toml if it exists, else the built-in"
        " default)",
    ).add_argument(
        "--builtin",
        action="store_true",
        help=(
            "the built-in default: daytime, echo and metrics on loopback ports that need no"
            " privilege"
        ),
    )


def _add_check(commands: "_Commands[argparse.ArgumentParser]") -> None:
    check = commands.add_parser(
        "check", help="check the configuration without side effects", allow_abbrev=False
    )
    _add_config(check, "the configuration file (default: as for run)")
    check.add_argument(
        "--show", action="store_true", help="print the effective configuration, defaults included"
    )
    check.add_argument(
        "--as-daemon",
        metavar="PID",
        type=_pid,
        nargs="?",
        const=0,
        help=(
            "check with the rights of the daemon that runs and with its view of the file system;"
            " for root, before a restart (default: the daemon at the control socket of the"
            " configuration)"
        ),
    )
    check.set_defaults(control=None)


def _pid(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PID:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is no pid: give the number of the daemon's main process, as unpd status prints"
        " it; to name a configuration file, write --config FILE"
    )


def _add_start(commands: "_Commands[argparse.ArgumentParser]") -> None:
    start = commands.add_parser(
        "start", help="detach; return when ready or failed", allow_abbrev=False
    )
    _add_config(start, "the configuration file (default: as for run); it must name a log.file")


def _add_install_units(commands: "_Commands[argparse.ArgumentParser]") -> None:
    units = commands.add_parser(
        "install-units",
        help="write the units of systemd, after an installation by pip, pipx or uv",
        allow_abbrev=False,
        description=(
            "Write the units of systemd for this unpd, which pip, pipx or uv has installed. A file"
            " that somebody has changed is not replaced. Nothing is started; the commands that do"
            " are printed."
        ),
    )
    units.add_argument(
        "--user",
        action="store_true",
        help="write a unit for the systemd of this user, instead of those of the system",
    )
    units.add_argument(
        "--directory",
        metavar="PATH",
        type=_path,
        help=(
            "where to write them (default: /etc/systemd/system, with --user ~/.config/systemd/user)"
        ),
    )
    units.add_argument(
        "--force", action="store_true", help="replace files that somebody has changed, too"
    )
    units.add_argument("--dry-run", action="store_true", help="print what would be done")


def _add_doctor(commands: "_Commands[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check the host, and say how to mend what is wrong",
        allow_abbrev=False,
        description=(
            "Check this host for the configuration, and for the daemon if it runs. Each finding"
            " has what is wrong, the figure, what would be right, and the command or the key that"
            " mends it. The exit code is 4 if something has to be mended."
        ),
    )
    _add_config(doctor, "the configuration file (default: as for run)")
    doctor.add_argument(
        "--control",
        metavar="PATH",
        type=_path,
        help="the control socket of the daemon (default: that of the configuration file)",
    )
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_top(commands: "_Commands[argparse.ArgumentParser]") -> None:
    top = commands.add_parser(
        "top",
        help="show the status live in the terminal",
        allow_abbrev=False,
        description="Show what unpd status --history says, live in the terminal; the key ?"
        " explains.",
    )
    _add_config(top, CONTROL_FROM).add_argument(
        "--control", metavar="PATH", type=_path, help="the path of the control socket"
    )
    top.add_argument(
        "--once", action="store_true", help="print it once, as plain text, with rates; then end"
    )
    top.add_argument(
        "--plain",
        action="store_true",
        help="print plain text again and again, for a screen reader or a terminal that can do no"
        " more",
    )
    top.add_argument(
        "--filter",
        metavar="TEXT",
        default="",
        help="show only services, processes and events of which a column holds this text",
    )
    top.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_interval,
        default=1.0,
        help="the time between two questions to the daemon, from 0.1 to 3600 (default: 1)",
    )


def _interval(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")


def _add_verb(commands: "_Commands[argparse.ArgumentParser]", verb: Verb) -> None:
    parser = commands.add_parser(
        verb.name, help=verb.help, description=verb.description, allow_abbrev=False
    )
    about = CONTROL_FROM
    if verb.name == "explain":
        about = "the configuration file whose rules decide; no daemon is asked"
    _add_config(parser, about).add_argument(
        "--control", metavar="PATH", type=_path, help="the path of the control socket"
    )
    for argument in (*verb.arguments, *verb.options):
        if argument.internal:
            parser.set_defaults(**{argument.name: argument.default})
        else:
            _add_argument(parser, argument)


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    name = argument.name if argument.operand else option_of(argument)
    if argument.type is bool:
        parser.add_argument(name, action="store_true", help=argument.help)
    else:
        nargs = "?" if argument.operand and argument.optional else None
        parser.add_argument(
            name,
            metavar=argument.placeholder,
            nargs=nargs,
            type=_text(argument.check),
            help=argument.help,
        )


def option_of(argument: Argument) -> str:
    """The option of an argument on the command line."""
    return f"--{argument.name.replace('_', '-')}"


def _text(check: Callable[[str], object]) -> Callable[[str], str]:
    """How argparse takes a text that ``check`` may refuse."""

    def checked(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return checked


def _add_config(parser: argparse.ArgumentParser, text: str) -> "argparse._MutuallyExclusiveGroup":
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="FILE", type=_path, help=text)
    return group


def _path(text: str) -> str:
    """Refuse an empty path, which would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def _tables() -> str:
    """The tables of signals and exit codes, for the end of the help."""
    signals = [(row.name, row.meaning) for row in MASTER_SIGNALS]
    codes = [(str(int(code)), meaning) for code, meaning in EXIT_MEANINGS.items()]
    return f"signals:\n{_columns(signals)}\n\nexit codes:\n{_columns(codes)}"


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {meaning}" for name, meaning in rows)
