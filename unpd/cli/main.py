"""The command line's entry: parses, imports the command that was asked for, and ends
with its exit code.

Kept light: ``unpd --version`` must answer before pydantic would be imported, so every
command imports its own world.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from unpd import __version__
from unpd.cli import client

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended: 128 and the number of SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``unpd`` with these arguments (sys.argv's if None); return the exit code. The
    broad net of the command line: an UnpdError becomes its sentence and its code.
    """
    args = _parser().parse_args(argv)
    if args.command == "client":
        return client.run(args)
    from unpd.errors import UnpdError  # noqa: PLC0415 - see above

    try:
        return _flushed(_command(args.command)(args))
    except UnpdError as error:
        for line in str(error).splitlines():
            print(f"{_priority()}unpd: {line}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at the end must
        # not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _priority() -> str:
    """What makes an error of a line where journald reads standard error
    (sd-daemon(3)).
    """
    from unpd.kernel import journal  # noqa: PLC0415 - see above

    return journal.ERROR if journal.reads(2, os.environ.get("JOURNAL_STREAM")) else ""


def _flushed(code: int) -> int:
    """The exit code, once what was printed is written."""
    sys.stdout.flush()
    return code


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    if name in ("stop", "reload", "status"):
        from unpd.cli import verbs  # noqa: PLC0415 - see above

        return {"stop": verbs.stop, "reload": verbs.reload, "status": verbs.status}[name]
    if name == "run":
        from unpd.kernel import signals  # noqa: PLC0415 - see above

        # From here on a signal is kept for the loop to take, not met with a trace
        # (SIGINT) or, by process 1, not at all.
        signals.block_all()
    if name == "start":
        from unpd.cli import start  # noqa: PLC0415 - see above

        return start.start
    from unpd.cli import commands  # noqa: PLC0415 - see above

    return {"run": commands.run, "check": commands.check}[name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unpd",
        description="A preforking super-server for the classic small Internet services.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unpd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="serve in the foreground",
        allow_abbrev=False,
        formatter_class=_WithTables,
        description="Serve in the foreground until a signal says stop.",
    )
    _add_config(
        run,
        "the configuration file (default: /etc/unpd/unpd.toml if there is one, else the built-in"
        " default)",
    ).add_argument(
        "--builtin",
        action="store_true",
        help=(
            "the built-in default: daytime, echo and metrics on loopback ports that need no"
            " privilege"
        ),
    )
    check = commands.add_parser(
        "check", help="check the configuration without side effects", allow_abbrev=False
    )
    _add_config(check, "the configuration file (default: as for run)")
    check.add_argument(
        "--show", action="store_true", help="print the effective configuration, defaults included"
    )
    start = commands.add_parser(
        "start", help="detach; return when ready or failed", allow_abbrev=False
    )
    _add_config(start, "the configuration file (default: as for run); it must name a log.file")
    for name, about in (
        ("stop", "stop the daemon and wait for its end"),
        ("reload", "read the configuration again; fail if it is refused"),
        ("status", "tell how it is"),
    ):
        verb = commands.add_parser(name, help=about, allow_abbrev=False)
        _add_config(
            verb, "the configuration file that names the control socket (default: as for run)"
        ).add_argument("--control", metavar="PATH", help="the control socket itself")
        if name == "stop":
            verb.add_argument("--quick", action="store_true", help="end every connection at once")
        if name == "status":
            verb.add_argument("--json", action="store_true", help="all of it, as JSON")
    client.add_arguments(commands)
    return parser


def _add_config(parser: argparse.ArgumentParser, about: str) -> "argparse._MutuallyExclusiveGroup":
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="FILE", help=about)
    return group


class _WithTables(argparse.RawDescriptionHelpFormatter):
    """Adds the tables of signals and exit codes, read from :mod:`unpd.names` only when
    somebody asks for help.
    """

    def format_help(self) -> str:
        """The help text with the tables behind it."""
        from unpd.names import EXIT_MEANINGS, MASTER_SIGNALS  # noqa: PLC0415 - only for help

        signals = "".join(f"  {row.name:<8} {row.meaning}\n" for row in MASTER_SIGNALS)
        codes = "".join(f"  {int(code):<8} {meaning}\n" for code, meaning in EXIT_MEANINGS.items())
        return f"{super().format_help()}\nsignals:\n{signals}\nexit codes:\n{codes}"


if __name__ == "__main__":
    sys.exit(main())
